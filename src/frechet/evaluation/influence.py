"""The influence of each generated image on the Fréchet distance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from frechet.metrics import compute_leave_one_out_changes, require_all_features
from frechet.results import ImageInfluence
from frechet.statistics.feature_statistics import FeatureStatistics


def compute_image_influence(generated: FeatureStatistics, reference: FeatureStatistics) -> ImageInfluence:
    """Compute how the Fréchet distance changes if one generated image is left out, for every generated image.

    Raises:
        RequestError: the generated statistics do not hold the features of every image.
    """
    require_all_features(generated)
    assert generated.indices is not None
    found = compute_leave_one_out_changes(generated, reference)
    labels = generated.labels or tuple(f"image {index}" for index in generated.indices)
    return ImageInfluence(labels, found.mean, found.covariance)


def list_influential_images(
    generated: FeatureStatistics, reference: FeatureStatistics | None, count: int
) -> dict[str, Any] | None:
    """List the images that raise the distance most and those that lower it most; None without a reference."""
    if reference is None:
        return None
    found = compute_image_influence(generated, reference)
    return {"raise": found.top_raising(count), "lower": found.top_lowering(count)}


def iter_influence_notes(generated: FeatureStatistics, reference: FeatureStatistics) -> Iterator[str]:
    """Yield a note that the influence of single images is unreliable if an input has n <= d."""
    if any(each.n is not None and each.n <= each.dims for each in (generated, reference)):
        yield (
            "the list of images that raise or lower the distance is unreliable, because an input has as many images as feature "
            "dimensions, or fewer"
        )

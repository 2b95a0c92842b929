"""References of losses in JAX, and the features of images of the same network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from frechet._internal.fields import list_keywords, validate_keywords
from frechet.backends.jax import pad_batch
from frechet.distances.gaussian import Gaussian
from frechet.errors import RequestError
from frechet.features.jax_network import NETWORK_OPTIONS, Network, is_traced, load_jax_network, validate_images
from frechet.features.registry import DEFAULT_EXTRACTOR
from frechet.losses.jax_distance import as_widest_float
from frechet.losses.reference import load_reference, validate_reference
from frechet.losses.validation import validate_sample_size
from frechet.losses.value_range import is_other_scale, resembles_other_scale
from frechet.metrics import fit_gaussian
from frechet.preprocessing.value_range import make_range_error
from frechet.statistics.feature_statistics import FeatureStatistics

FeatureFn = jax.tree_util.Partial  # a Network bound to its params: images (n, h, w, 3) -> features (n, d)


@dataclass(frozen=True)
class Reference:
    """A reference and the network whose features it consists of, as a pytree.

    Attributes:
        feature_fn: images (n, h, w, 3) -> features (n, d).
        gaussian: mean and covariance of the reference features, with a factor of the covariance.
        rows: features (k, d) for KID, or None.
    """

    feature_fn: FeatureFn
    gaussian: Gaussian
    rows: jax.Array | None


jax.tree_util.register_dataclass(Reference, ["feature_fn", "gaussian", "rows"], [])


def make_reference(
    source: str | Path | FeatureStatistics | np.ndarray | jax.Array,
    *,
    extractor: str = DEFAULT_EXTRACTOR,
    batch_size: int = 32,
    **options: Any,
) -> Reference:
    """Load a network and the statistics of reference images for the losses of this module.

    Args:
        source: the path or URL of a statistics file, ref:NAME, `frechet.Statistics`, or images (m, h, w, 3), uint8 or floating point in
            `value_range`.
        extractor: name of the extractor, see `frechet extractors`. Unless they are passed, the extractor, the layer and the
            preprocessing are those of the statistics.
        batch_size: number of reference images per forward pass.
        **options: `dims`, `preprocessing`, `weights` and `precision` as in `frechet.score`; `value_range`, the pixel
            values (black, white) of floating-point images, by default (0, 1); `gradient_checkpointing`, whether the
            network's activations are recomputed in the backward pass.

    Returns:
        A reference, to be passed to a jitted function as an argument.

    Raises:
        RequestError: a name is unknown, or the source cannot be read.
        MismatchError: the statistics have another extractor, layer, preprocessing, precision or other weights.
        WeightsError: the weights are missing or damaged.

    Example:
        >>> images = jax.random.uniform(jax.random.key(0), (8, 32, 32, 3))
        >>> reference = make_reference(images, extractor="efficientnet-lite0")
        >>> fid_loss(images, reference).shape
        ()
    """
    validate_keywords("make_reference", options, [*list_keywords(make_reference), *NETWORK_OPTIONS])
    loaded, options = load_reference(
        source, image_types=(np.ndarray, jax.Array), extractor=extractor, batch_size=batch_size, **options
    )
    feature_fn = FeatureFn(*load_jax_network(options.pop("extractor"), **options))
    statistics = _collect_reference_statistics(loaded, feature_fn, batch_size)
    gaussian = fit_gaussian(statistics).with_factor()
    mean, covariance, factor = map(as_widest_float, (gaussian.mean, gaussian.covariance, gaussian.factor))
    is_double = mean.dtype == jnp.float64
    return Reference(
        feature_fn,
        Gaussian(
            mean, covariance=covariance if is_double else None, factor=factor, covariance_eps=gaussian.covariance_eps
        ),
        as_widest_float(statistics.rows),
    )


def as_sample(features: jax.Array) -> jax.Array:
    """Return features of at least two images in the widest float."""
    validate_sample_size(features.shape[0])
    return features.astype(jnp.result_type(float))


def get_feature_fn(reference: Any) -> FeatureFn:
    """Return the network of a reference, or a network itself.

    Raises:
        RequestError: it is something else.
    """
    feature_fn = reference.feature_fn if isinstance(reference, Reference) else reference
    if not (isinstance(feature_fn, FeatureFn) and isinstance(feature_fn.func, Network)):
        raise RequestError(
            f"the reference is a {type(reference).__name__}; expected the result of frechet.losses.jax.make_reference, "
            "called once before the training loop (for is_loss: jax.tree_util.Partial(*frechet.jax.network(dims=1008)))"
        )
    return feature_fn


def compute_features(feature_fn: FeatureFn, images: Any) -> jax.Array:
    """Compute the features of a batch whose values may leave the range but not have another scale.

    In traced code, which does not know whether a batch is the first one, images in 0..255, and images in -1..1 with black
    pixels, have NaN features.

    Raises:
        RequestError: the images have another shape or dtype or, outside of traced code, another scale.
    """
    network: Any = feature_fn.func
    _validate_float_images(images)
    validate_images(images)
    if not images.size:
        return network.unchecked(*feature_fn.args, images)
    lowest, highest = jnp.min(images), jnp.max(images)
    if not is_traced(lowest) and bool(resembles_other_scale(lowest, highest, network.value_range)):
        raise make_range_error(float(lowest), float(highest), network.value_range)
    features = network.unchecked(*feature_fn.args, images)
    return jnp.where(is_other_scale(lowest, highest, network.value_range), jnp.nan, features)


def _validate_float_images(images: Any) -> None:
    if not hasattr(images, "dtype"):
        raise RequestError(
            f"images has type {type(images).__name__}; expected an array (n, h, w, 3). Pass jnp.asarray(images)."
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise RequestError(
            f"images are {images.dtype}, which has no gradient; pass floating point: images.astype(jnp.float32) / 255"
        )


def _collect_reference_statistics(
    source: FeatureStatistics | np.ndarray | jax.Array, feature_fn: FeatureFn, batch_size: int
) -> FeatureStatistics:
    """Return statistics of the reference whose weights are known to match, computing them from images if necessary."""
    network: Any = feature_fn.func
    if isinstance(source, FeatureStatistics):
        validate_reference(source, network.spec, network.dims)
        return source
    run = jax.jit(lambda feature_fn, images: feature_fn(images))
    batches = (source[start : start + batch_size] for start in range(0, source.shape[0], batch_size))
    batch_features = [np.asarray(run(feature_fn, pad_batch(batch, batch_size)))[: batch.shape[0]] for batch in batches]
    rows = np.concatenate(batch_features) if batch_features else np.empty((0, network.dims), np.float32)
    return FeatureStatistics.from_features(rows, spec=network.spec, label="images in memory")

"""How inputs were computed: whether they may be compared, and what a reader should know about them."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from frechet.errors import MismatchError
from frechet.evaluation.pair_checks import iter_pair_notes
from frechet.features.extractor import LoadedExtractor
from frechet.features.spec import FeatureSpec, validate_same_spec
from frechet.images.fast_decoders import describe_decoders
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.inferred_spec import infer_layer
from frechet.version import __version__

_MAX_SKIPPED_SHOWN = 3
_REPORTED_FIELDS = ("extractor", "layer", "preprocessing", "precision")


def resolve_spec(generated: FeatureStatistics, *others: FeatureStatistics) -> FeatureSpec:
    """Return what identifies the features of all inputs; what one input does not record is taken from the others.

    If no input records the extractor, it is what the formats of all files suggest; that of features is unknown.

    Raises:
        MismatchError: the inputs differ in extractor, layer, weights, preprocessing, precision or dimension.
    """
    spec = generated.spec
    for other in others:
        if generated.dims != other.dims:
            raise MismatchError(
                f"generated ({generated.label}) has {generated.dims:,} dimensions and reference ({other.label}) "
                f"{other.dims:,}; they come from different layers or networks; use the same --dims (dims=) and extractor for both"
            )
        validate_same_spec(spec, other.spec)
        spec = spec.fill_missing(other.spec)
        if other.spec.is_official:  # the same tensors, and known to be the published ones on that side
            spec = replace(spec, is_official=True)
    assumed = {each.assumed_extractor for each in (generated, *others)}
    return infer_layer(spec, assumed.pop() if len(assumed) == 1 else None, generated.dims)


def iter_warnings(
    generated: FeatureStatistics, reference: FeatureStatistics | None, spec: FeatureSpec
) -> Iterator[str]:
    """Yield warnings about the inputs that apply to every score."""
    inputs = [("generated", generated)] + ([("reference", reference)] if reference is not None else [])
    if spec.extractor is None:
        unknown = " and ".join(statistics.label for _, statistics in inputs if statistics.spec.extractor is None)
        yield (
            f"{unknown} {'do' if ' and ' in unknown else 'does'} not record which network computed the features; name it with "
            "--extractor (extractor=)"
        )
    for name, statistics in inputs:
        if not statistics.spec.is_complete and spec.extractor is not None:
            taken = ", ".join(
                f"{key} {value}" for key, value in asdict(spec).items() if key in _REPORTED_FIELDS and value
            )
            fix = ". If it used another preprocessing, set --reference-preprocessing (reference_preprocessing=)."
            yield (
                f"{statistics.label} does not record how it was computed; assuming {taken}"
                + (fix if name == "reference" else "")
            )
        yield from (f"{name}: {note}" for note in statistics.notes)
        if statistics.skipped_images:
            yield f"{name}: {_describe_shortfall(statistics)}{describe_skipped(statistics.skipped_images)}"
    if reference is not None:
        yield from iter_pair_notes(generated, reference)


def _describe_shortfall(statistics: FeatureStatistics) -> str:
    """Return how many images of a subset were used, of which some were skipped; nothing if all images of the source were read."""
    n_requested = (statistics.n or 0) + len(statistics.skipped_images)
    if statistics.n is None or statistics.n_source is None or statistics.n_source <= n_requested:
        return ""
    return f"{statistics.n:,} of the {n_requested:,} requested images were scored; "


def describe_skipped(skipped_images: Sequence[str], listed_in: str = "--json") -> str:
    """Describe how many images were skipped, which the first ones are, and where all of them are listed under `skipped_images`."""
    count, shown = len(skipped_images), "; ".join(skipped_images[:_MAX_SKIPPED_SHOWN])
    more = count - _MAX_SKIPPED_SHOWN
    rest = f"; and {more:,} more ({listed_in} lists all of them under skipped_images)" if more > 0 else ""
    return f"skipped {count:,} image{'s' if count > 1 else ''} that could not be decoded: {shown}{rest}"


def iter_size_warnings(generated: FeatureStatistics, reference: FeatureStatistics | None) -> Iterator[str]:
    """Yield a warning about inputs of a Fréchet distance with n <= d, in one line for both."""
    inputs = {"generated": generated, "reference": reference}
    few = [f"{each.n:,} {name}" for name, each in inputs.items() if each and each.n is not None and each.n <= each.dims]
    if few:
        dims = generated.dims
        yield (
            f"{' and '.join(few)} images for {dims:,} feature dimensions: the covariance is singular, and the distance is strongly "
            "biased upwards. Compare it only with runs of the same sample size."
        )


def describe_image_processing(extractor: LoadedExtractor) -> dict[str, str]:
    """Return what decodes images, with versions, and where they are resized: "host" or "device"."""
    return {**describe_decoding(), "preprocess_on": extractor.preprocess_on}


def describe_decoding() -> dict[str, str]:
    """Return what decodes images, with versions."""
    return {"decoders": describe_decoders()}


def describe_moments(statistics: FeatureStatistics) -> list[float]:
    """Return the squared norm of the mean and the trace of the covariance, by which statistics are recognised."""
    return [float(statistics.mean @ statistics.mean), float(np.trace(statistics.covariance))]


def build_provenance(
    generated: FeatureStatistics,
    reference: FeatureStatistics | None,
    spec: FeatureSpec,
    backend: str | None,
    device: str | None,
) -> dict[str, Any]:
    """Build what is needed to reproduce a score, as plain JSON values."""

    def describe(statistics: FeatureStatistics) -> dict[str, Any]:
        recorded = asdict(statistics.spec)
        return {
            "label": statistics.label,
            "sha256": statistics.sha256,
            "n": statistics.n,
            "n_source": statistics.n_source,
            "seed": statistics.seed,
            "crop": statistics.crop,
            "sizes": dict(statistics.sizes),
            "made_by": statistics.made_by,
            "moments": describe_moments(statistics),
            "assumed": [name for name, value in recorded.items() if value is None],
            "skipped_images": list(statistics.skipped_images),
        }

    return {
        "frechet": __version__,
        **asdict(spec),
        "backend": backend,
        "device": device,
        "generated": describe(generated),
        "reference": describe(reference) if reference is not None else None,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }

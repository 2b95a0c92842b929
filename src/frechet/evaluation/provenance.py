"""How the sides of a score were made: whether they may be compared, and what a reader should know of them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from frechet.errors import MismatchError
from frechet.evaluation.pair_checks import iter_pair_notes
from frechet.features.registry import EXTRACTORS
from frechet.features.spec import FeatureSpec, validate_same_spec
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.version import __version__

_REPORTED_FIELDS = ("extractor", "layer", "preprocessing", "precision")


def resolve_spec(generated: FeatureStatistics, *others: FeatureStatistics) -> FeatureSpec:
    """How all sides were made, as far as any says.

    Raises:
        Mismatch: they were made differently and have no distance.
    """
    spec = generated.spec
    for other in others:
        if generated.dims != other.dims:
            raise MismatchError(
                f"generated ({generated.label}) has {generated.dims} dimensions and reference ({other.label}) "
                f"{other.dims}; they come from different layers or networks"
            )
        validate_same_spec(spec, other.spec)
        spec = spec.fill_missing(other.spec)
        if other.spec.is_official:  # the same tensors, and known to be the published ones on that side
            spec = replace(spec, is_official=True)
    return spec.fill_missing(guess_spec(generated.dims))


def guess_spec(dims: int) -> FeatureSpec:
    """What statistics that say nothing are taken for: Inception features, where Inception has such a layer."""
    layers = [layer for layer, d in EXTRACTORS["inception"].layers.items() if d == dims]
    return FeatureSpec(extractor="inception", layer=layers[0]) if layers else FeatureSpec()


def iter_warnings(
    generated: FeatureStatistics, reference: FeatureStatistics | None, spec: FeatureSpec, *, frechet: bool
) -> Iterator[str]:
    """What a reader should know of the sides; `frechet` says whether a Fréchet distance is among the scores."""
    sides = [("generated", generated)] + ([("reference", reference)] if reference is not None else [])
    for name, side in sides:
        if not side.spec.is_complete:
            taken = ", ".join(
                f"{key} {value}" for key, value in asdict(spec).items() if key in _REPORTED_FIELDS and value
            )
            yield (
                f"{side.label} does not say how it was made; taken to be {taken or 'made like the other side'}"
                + (
                    ". If it used another preprocessing, set --reference-preprocessing (reference_preprocessing=)."
                    if name == "reference"
                    else ""
                )
            )
        if frechet and side.n is not None and side.n <= side.dims:
            yield (
                f"{side.n} {name} images span at most {side.n - 1} of {side.dims} dimensions: the value is far too large "
                "and only comparable with others at the same numbers of images"
            )
        yield from (f"{name}: {note}" for note in side.notes)
        if side.skipped_images:
            count = len(side.skipped_images)
            yield (
                f"{name}: {count} image{'s' if count > 1 else ''} left out, which could not be decoded; the first: "
                f"{side.skipped_images[0]}"
            )
    if reference is not None:
        yield from iter_pair_notes(generated, reference)


def build_provenance(
    generated: FeatureStatistics,
    reference: FeatureStatistics | None,
    spec: FeatureSpec,
    backend: str | None,
    device: str | None,
) -> dict[str, Any]:
    """What a reader needs to make a score again; plain JSON."""

    def side(statistics: FeatureStatistics) -> dict[str, Any]:
        recorded = asdict(statistics.spec)
        return {
            "label": statistics.label,
            "sha256": statistics.sha256,
            "n": statistics.n,
            "n_source": statistics.n_source,
            "seed": statistics.seed,
            "made_by": statistics.made_by,
            "moments": [float(statistics.mean @ statistics.mean), float(np.trace(statistics.covariance))],
            "assumed": [name for name, value in recorded.items() if value is None],
            "skipped_images": list(statistics.skipped_images),
        }

    return {
        "frechet": __version__,
        **asdict(spec),
        "backend": backend,
        "device": device,
        "generated": side(generated),
        "reference": side(reference) if reference is not None else None,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }

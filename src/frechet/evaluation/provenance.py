"""How the sides of a score were made: whether they may be compared, and what a reader should know of them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from frechet.errors import Mismatch
from frechet.evaluation.pair_checks import remarks_on_pair
from frechet.features.registry import EXTRACTORS
from frechet.features.spec import Recipe, require_equal
from frechet.statistics.feature_statistics import Statistics
from frechet.version import __version__

_TOLD = ("extractor", "layer", "convention", "precision")


def common_recipe(generated: Statistics, *others: Statistics) -> Recipe:
    """How all sides were made, as far as any says.

    Raises:
        Mismatch: they were made differently and have no distance.
    """
    recipe = generated.recipe
    for other in others:
        if generated.dims != other.dims:
            raise Mismatch(
                f"generated ({generated.source}) has {generated.dims} dimensions and reference ({other.source}) "
                f"{other.dims}; they come from different layers or networks"
            )
        require_equal(recipe, other.recipe)
        recipe = recipe.filled_from(other.recipe)
        if other.recipe.official:  # the same tensors, and known to be the published ones on that side
            recipe = replace(recipe, official=True)
    return recipe.filled_from(guess_of(generated.dims))


def guess_of(dims: int) -> Recipe:
    """What statistics that say nothing are taken for: Inception features, where Inception has such a layer."""
    layers = [tap for tap, d in EXTRACTORS["inception"].taps.items() if d == dims]
    return Recipe(extractor="inception", layer=layers[0]) if layers else Recipe()


def warnings_on(generated: Statistics, reference: Statistics | None, recipe: Recipe, *, frechet: bool) -> Iterator[str]:
    """What a reader should know of the sides; `frechet` says whether a Fréchet distance is among the scores."""
    sides = [("generated", generated)] + ([("reference", reference)] if reference is not None else [])
    for name, side in sides:
        if not side.recipe.complete:
            taken = ", ".join(f"{key} {value}" for key, value in asdict(recipe).items() if key in _TOLD and value)
            yield (
                f"{side.source} does not say how it was made; taken to be {taken or 'made like the other side'}"
                + (
                    ". If its convention is another one, say --reference-convention (reference_convention=)."
                    if name == "reference"
                    else ""
                )
            )
        if frechet and side.n is not None and side.n <= side.dims:
            yield (
                f"{side.n} {name} images span at most {side.n - 1} of {side.dims} dimensions: the value is far too large "
                "and only comparable with others at the same numbers of images"
            )
        yield from (f"{name}: {remark}" for remark in side.remarks)
        if side.bad_images:
            count = len(side.bad_images)
            yield (
                f"{name}: {count} image{'s' if count > 1 else ''} left out, which could not be decoded; the first: "
                f"{side.bad_images[0]}"
            )
    if reference is not None:
        yield from remarks_on_pair(generated, reference)


def provenance_of(
    generated: Statistics, reference: Statistics | None, recipe: Recipe, backend: str | None, device: str | None
) -> dict[str, Any]:
    """What a reader needs to make a score again; plain JSON."""

    def side(statistics: Statistics) -> dict[str, Any]:
        said = asdict(statistics.recipe)
        return {
            "source": statistics.source,
            "sha256": statistics.sha256,
            "n": statistics.n,
            "n_source": statistics.n_source,
            "seed": statistics.seed,
            "made_by": statistics.made_by,
            "moments": [float(statistics.mean @ statistics.mean), float(np.trace(statistics.covariance))],
            "assumed": [name for name, value in said.items() if value is None],
            "bad_images": list(statistics.bad_images),
        }

    return {
        "frechet": __version__,
        **asdict(recipe),
        "backend": backend,
        "device": device,
        "generated": side(generated),
        "reference": side(reference) if reference is not None else None,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }

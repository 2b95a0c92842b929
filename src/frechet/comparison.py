"""Two statistics side by side: may they be compared, what do the metrics say, what should a reader know."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from frechet.engines.local import Progress
from frechet.errors import Mismatch, RequestError, StatisticsError
from frechet.features.extractors import EXTRACTORS
from frechet.features.recipe import Recipe, require_equal
from frechet.metrics import METRICS, default_metric, frechet_influence, label_of, require_all_features
from frechet.scores import Influences, Score, Scores
from frechet.statistics.pairs import remarks_on_pair
from frechet.statistics.statistics import Statistics
from frechet.version import __version__


def compare(
    generated: Statistics,
    reference: Statistics,
    *,
    metrics: Sequence[str] | None = None,
    interval: str = "auto",
    explain: int = 0,
    progress: Progress | None = None,
    backend: str | None = None,
    device: str | None = None,
) -> Scores:
    """Scores from two statistics. Arguments as in `frechet.score`.

    Raises:
        Mismatch: they were made differently.
        RequestError: an unknown metric, or one that these features do not have.
    """
    require_wishes(interval, explain)
    recipe = common_recipe(generated, reference)
    names = checked_metrics(metrics, recipe)
    provenance = _provenance(generated, reference, recipe, backend, device)
    notes = tuple(_warnings(generated, reference, recipe))
    listed = _listed(generated, reference, explain) if explain else None
    scores = {}
    for name in names:
        terms = METRICS[name].compute(generated, reference, device or "cpu")
        if not math.isfinite(terms.total):
            raise StatisticsError(f"{name} is {terms.total}: the statistics hold numbers too large to be features")
        scores[name] = Score(
            metric=name,
            label=label_of(name, recipe, generated.dims),
            value=terms.total,
            terms=terms._asdict(),
            **_interval_fields(name, generated, reference, interval, progress),
            influence=listed,
            n_generated=generated.n,
            n_reference=reference.n,
            bad_images=generated.bad_images + reference.bad_images,
            warnings=notes,
            provenance=provenance,
        )
    return Scores(scores, provenance)


def common_recipe(generated: Statistics, reference: Statistics) -> Recipe:
    """How both sides were made, as far as either says.

    Raises:
        Mismatch: they were made differently and have no distance.
    """
    if generated.dims != reference.dims:
        raise Mismatch(
            f"generated ({generated.source}) has {generated.dims} dimensions and reference ({reference.source}) "
            f"{reference.dims}; they come from different layers or networks"
        )
    require_equal(generated.recipe, reference.recipe)
    recipe = generated.recipe.filled_from(reference.recipe).filled_from(guess_of(generated.dims))
    if reference.recipe.official:  # the same tensors, and known to be the published ones on that side
        recipe = replace(recipe, official=True)
    return recipe


def require_wishes(interval: str, explain: int) -> None:
    """Refuse wishes that could never be met, before anything is computed."""
    if interval not in ("auto", "none"):
        raise RequestError(f"interval is {interval!r}; expected auto or none")
    if explain < 0:
        raise RequestError(f"explain is {explain}; expected the number of images to list")


def _interval_fields(
    metric: str, generated: Statistics, reference: Statistics, interval: str, progress: Progress | None
) -> dict[str, Any]:
    """The fields of a score that say how far it is from the truth, or why that is not known."""
    if interval == "none":
        return {"interval_reason": "not asked for"}

    def done(step: int, steps: int) -> None:
        if progress:
            progress("interval", step, steps)

    found = METRICS[metric].interval(generated, reference, generated.seed, done)
    if isinstance(found, str):
        return {"interval_reason": found}
    return {
        "corrected_value": found.corrected,
        "standard_error": found.standard_error,
        "interval_95": (found.low, found.high),
        "interval_method": found.method,
        "variances": found.variances,
        "reference_groups": found.groups,
        "p_equal": found.p_equal,
        "halved_by": found.halved_by(generated.n, reference.n),
    }


def influences_of(generated: Statistics, reference: Statistics) -> Influences:
    """What every generated image does to the Fréchet distance.

    Raises:
        RequestError: the generated side did not keep every image's features.
    """
    require_all_features(generated)
    assert generated.n is not None
    assert generated.places is not None
    found = frechet_influence(generated, reference)
    names = generated.names or tuple(f"image {place}" for place in generated.places)
    return Influences(names, found.mean / (1 - generated.n), found.covariance / (1 - generated.n))


def _listed(generated: Statistics, reference: Statistics, count: int) -> dict[str, Any]:
    found = influences_of(generated, reference)
    return {"raise": found.raising(count), "lower": found.lowering(count)}


def checked_metrics(metrics: Sequence[str] | None, recipe: Recipe) -> Sequence[str]:
    """The metrics wished for, or the default one.

    Raises:
        RequestError: unknown, or not for such features.
    """
    default = default_metric(recipe)
    for name in metrics or ():
        if name not in METRICS:
            raise RequestError(f"no metric {name!r}; there is {', '.join(METRICS)}")
        if name.removesuffix("-infinity") != default:
            raise RequestError(
                f"metric {name} is not for features of {recipe.extractor or 'an unknown extractor'}; use {default} "
                "(FID is the name for Inception features alone)"
            )
    return list(dict.fromkeys(metrics)) if metrics else [default]


def guess_of(dims: int) -> Recipe:
    """What statistics that say nothing are taken for: Inception features, where Inception has such a layer."""
    layers = [tap for tap, d in EXTRACTORS["inception"].taps.items() if d == dims]
    return Recipe(extractor="inception", layer=layers[0]) if layers else Recipe()


def _warnings(generated: Statistics, reference: Statistics, recipe: Recipe) -> Iterator[str]:
    for name, side in (("generated", generated), ("reference", reference)):
        if not side.recipe.complete:
            taken = ", ".join(f"{key} {value}" for key, value in asdict(recipe).items() if key in _TOLD and value)
            yield (
                f"{side.source} does not say how it was made; taken to be {taken or 'made like the other side'}"
                + (". If its convention is another one, say --reference-convention." if name == "reference" else "")
            )
        if side.n is not None and side.n <= side.dims:
            yield (
                f"{side.n} {name} images span at most {side.n - 1} of {side.dims} dimensions: the value is far too large "
                "and only comparable with others at the same numbers of images"
            )
        yield from (f"{name}: {remark}" for remark in side.remarks)
        if side.bad_images:
            yield f"{name}: {len(side.bad_images)} images could not be decoded and were left out; the first: {side.bad_images[0]}"
    yield from remarks_on_pair(generated, reference)


_TOLD = ("extractor", "layer", "convention", "precision")


def _provenance(
    generated: Statistics, reference: Statistics, recipe: Recipe, backend: str | None, device: str | None
) -> dict[str, Any]:
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
        "reference": side(reference),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }

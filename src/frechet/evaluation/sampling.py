"""Which images depend on each other: pairs and clusters, as the caller states them or as the names of the images show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from frechet._internal.fields import name_option
from frechet.errors import RequestError
from frechet.evaluation.cluster_names import explain_missing_clusters, find_clusters, has_names
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.sampling_request import SamplingRequest
from frechet.execution.chunks import Units
from frechet.images.image import ImageSource
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.strata import number_stratified_images

_PLURALS = {"image": "images", "pair": "pairs", "cluster": "clusters", "stratum": "strata"}
COLLECTED = "the images"  # name of an input of which statistics are collected for later


def resolve_units(
    request: SamplingRequest, inputs: Mapping[str, ImageSource | FeatureStatistics]
) -> dict[str, Units | None]:
    """Return the sampling units of the images of each input; None if each image is one by itself.

    Pairs are images i of both inputs: if `design` says so, for reconstructions (rfid), or if both inputs have the same names
    in the same order. This makes no difference to the interval if the images are independent after all.

    Args:
        request: its `design`, `cluster_by`, `clusters` and `strata`.
        inputs: the opened inputs ("generated", "reference", "held-out", or `COLLECTED` alone); units of statistics were decided
            when they were collected.

    Raises:
        RequestError: pairs that cannot be formed, clusters that do not fit the images, or clusters of one image each.
    """
    sources = {name: each for name, each in inputs.items() if isinstance(each, ImageSource)}
    if has_clusters(request):
        return _resolve_clusters(request, sources)
    if request.strata is not None:
        return {name: _resolve_strata(request, name, source) for name, source in sources.items()}
    is_paired = uses_pairs(request)
    if is_paired:
        require_pairs(inputs)
    elif request.design == "auto":
        is_paired = have_equal_names(sources)
    units = Units("pair") if is_paired else Units("image") if request.design == "independent" else None
    return {name: None if name == "held-out" else units for name in sources}


def iter_design_notes(request: ScoreRequest, inputs: Mapping[str, ImageSource | FeatureStatistics]) -> Iterator[str]:
    """Yield notes if an interval treats images as independent although their names or features suggest otherwise."""
    sources = {name: each for name, each in inputs.items() if isinstance(each, ImageSource)}
    if request.design == "independent" and request.interval != "none" and have_equal_names(sources):
        yield (
            "the generated and the reference images have equal names in the same order, as reconstructions have, but the interval "
            "is for independent images. If image i of one input belongs to image i of the other, pass --design paired (design=)."
        )
    if request.interval != "none" and request.cluster_by is not None:
        yield from _iter_notes_on_missing_clusters(request, request.cluster_by, sources)
    if request.interval != "none" and request.design == "auto":
        yield from _iter_notes_on_equal_rows(inputs)


def _iter_notes_on_missing_clusters(
    request: ScoreRequest, cluster_by: str | Path, sources: Mapping[str, ImageSource]
) -> Iterator[str]:
    """Yield a note for each input, if its sampling error matters, without clusters next to an input that has some."""
    reasons = {name: each for name, each in _find_clusters(cluster_by, sources).items() if isinstance(each, str)}
    is_fixed = request.reference_is == "fixed"
    for name, reason in reasons.items():
        if name == "generated" or not is_fixed:
            yield (
                f"{reason}; they are treated as independent. If they are not, list their clusters in a CSV file (--cluster-by FILE, "
                "cluster_by=)."
            )
    if "reference" in set(sources) - set(_find_named(sources)) and not is_fixed:
        yield (
            f"{sources['reference'].label} has no file names, from which clusters are read; its images are treated as independent. If "
            "they are not, pass clusters= for both inputs in Python."
        )


def _iter_notes_on_equal_rows(inputs: Mapping[str, ImageSource | FeatureStatistics]) -> Iterator[str]:
    """Yield a note for each input of features if more than 1 % of the stored rows are copies of earlier ones."""
    for name in ("generated", "reference"):
        each = inputs.get(name)
        if not isinstance(each, FeatureStatistics) or each.rows is None or each.n_units not in (None, each.n):
            continue
        n_different = len({hash(row.tobytes()) for row in each.rows})
        if each.grouped_by == "image" and n_different < 0.99 * len(each.rows):
            yield (
                f"only {n_different:,} of {len(each.rows):,} rows are different in {each.label}, but the interval treats each row as an "
                "independent image. If equal rows are copies of one image, remove the copies, or pass the number of the image for each "
                "row as clusters= in Python. Otherwise, pass --design independent (design=)."
            )


def require_consistent_design(request: SamplingRequest, inputs: Mapping[str, ImageSource | FeatureStatistics]) -> None:
    """Require that features and statistics were collected with the requested design, which cannot be changed afterwards.

    Raises:
        RequestError: names the input, the design that was asked for, and the one that it has.
    """
    main = inputs.get("generated", inputs.get(COLLECTED))
    if isinstance(request.strata, str) and isinstance(main, FeatureStatistics) and main.grouped_by != "stratum":
        raise RequestError(
            f"{name_option('strata')} is 'class', but {main.label} does not consist of images in class folders; in Python, pass the class of each row as "
            "strata="
        )
    if request.cluster_by is not None and not any(isinstance(each, ImageSource) for each in inputs.values()):
        raise RequestError(
            f"{name_option('cluster_by')} is {str(request.cluster_by)!r}, but no input consists of images, whose names define the clusters; pass the "
            "cluster of each row as clusters="
        )
    for name in ("generated", "reference"):
        each = inputs.get(name)
        if not isinstance(each, FeatureStatistics):
            continue
        expected = {
            "pair": request.design == "paired",
            "cluster": _get_clusters(request, name) is not None,
            "stratum": _get_strata(request, name) is not None,
        }
        for kind in (kind for kind, is_expected in expected.items() if is_expected and each.grouped_by != kind):
            raise RequestError(
                f"{each.label} contains statistics that were computed for {_PLURALS[each.grouped_by]}, but this run requests "
                f"{_PLURALS[kind]}; pass the {name} images or features, or leave out --design, --cluster-by and --strata"
            )


def uses_pairs(request: SamplingRequest) -> bool:
    """Return whether the request states that image i of one input belongs to image i of the other."""
    metrics = request.metric_names if isinstance(request, ScoreRequest) else None
    names = [name.partition("@")[0] for name in metrics or ()]
    return request.design == "paired" or (request.design == "auto" and "rfid" in names)


def has_clusters(request: SamplingRequest) -> bool:
    """Return whether the request names clusters."""
    return request.cluster_by is not None or request.clusters is not None


def get_feature_units(request: SamplingRequest, name: str) -> Units | None:
    """Return the sampling units of an input that is an array of features, as far as the caller states them."""
    clusters = _get_clusters(request, name)
    if clusters is not None:
        return Units("cluster", clusters)
    strata = _get_strata(request, name)
    if strata is not None:
        return Units("stratum", number_stratified_images(strata, request.seed))
    return Units("pair") if uses_pairs(request) and name != "held-out" else None


def require_pairs(inputs: Mapping[str, ImageSource | FeatureStatistics]) -> None:
    """Require as many generated as reference images, with equal names in the same order if both have names.

    Raises:
        RequestError: the images do not form pairs.
    """
    given = [inputs[name] for name in ("generated", "reference") if name in inputs]
    sizes = [each.n if isinstance(each, FeatureStatistics) else len(each) for each in given]
    if len(given) < 2 or None in sizes:
        return
    if sizes[0] != sizes[1]:
        raise RequestError(
            f"paired images require equal numbers of generated and reference images; got {sizes[0]:,} and {sizes[1]:,}. Pass one "
            "reference image per generated image in the same order, or --design independent (design=) with metrics that do not "
            "compare pairs."
        )
    names = [iter_names(each) for each in given if isinstance(each, ImageSource)]
    if len(names) == 2:
        for one, other in zip(*names, strict=True):
            if one is not None and other is not None and one != other:
                raise RequestError(
                    f"pairs need equal names in the same order: got {one} and {other}. Rename the images, or pass "
                    "--design independent (design=) with metrics that do not compare pairs."
                )


def have_equal_names(sources: Mapping[str, ImageSource]) -> bool:
    """Return whether the generated and the reference images have equal names in the same order, as pairs have."""
    one, other = sources.get("generated"), sources.get("reference")
    if one is None or other is None or len(one) != len(other):
        return False
    return all(a is not None and a == b for a, b in zip(iter_names(one), iter_names(other), strict=True))


def iter_names(source: ImageSource) -> Iterator[str | None]:
    """Yield the name of each image without its suffix: a reconstruction may be stored in another format."""
    for source_index in range(len(source)):
        name = source.get_member_name(source_index)
        yield name and str(PurePosixPath(name).with_suffix(""))


def _get_clusters(request: SamplingRequest, name: str) -> np.ndarray | None:
    """Return the clusters that the caller passed for an input, as numbers from 0.

    Raises:
        RequestError: they are not one-dimensional, or each has one image.
    """
    values = _get_values(request.clusters, "clusters", name)
    return None if values is None else _number(values, _describe(name))


def _get_values(given: Any, option: str, name: str) -> np.ndarray | None:
    """Return what the caller passed for each image of an input; None if nothing.

    Raises:
        RequestError: an unknown key, or values that are not one-dimensional.
    """
    if given is None:
        return None
    by_input = given if isinstance(given, Mapping) else {COLLECTED if name == COLLECTED else "generated": given}
    if name == COLLECTED and isinstance(given, Mapping):
        raise RequestError(f"{option} has the keys {sorted(given)}; expected one entry per image, without keys")
    if unknown := set(by_input) - {"generated", "reference", COLLECTED}:
        raise RequestError(f"{option} has the keys {sorted(unknown)}; expected generated, reference or both")
    if name not in by_input:
        return None
    try:
        values = np.asarray(by_input[name])
    except (ValueError, TypeError) as error:  # lists of different lengths
        raise RequestError(
            f"{option} of {_describe(name)} is not an array ({error}); expected one per image, (n,)"
        ) from None
    if values.ndim != 1:
        raise RequestError(f"{option} of {_describe(name)} have shape {values.shape}; expected one per image, (n,)")
    if values.dtype.kind not in "iuUS":
        raise RequestError(
            f"{option} of {_describe(name)} contain {_find_invalid(values)!r}; expected integers or strings, one per image"
        )
    return values


def _find_invalid(values: np.ndarray) -> Any:
    """Return the first entry that is neither an integer nor a string."""
    entries: list[Any] = values.tolist()
    return next(
        (entry for entry in entries if not isinstance(entry, (int, str)) or isinstance(entry, bool)), entries[0]
    )


def _describe(name: str) -> str:
    return name if name == COLLECTED else f"the {name} images"


def _get_strata(request: SamplingRequest, name: str) -> np.ndarray | None:
    """Return the strata that the caller passed for an input, as numbers from 0."""
    if isinstance(request.strata, str):
        return None
    values = _get_values(request.strata, "strata", name)
    return None if values is None else _number_strata(values, _describe(name))


def _resolve_strata(request: SamplingRequest, name: str, source: ImageSource) -> Units | None:
    """Return the numbers of stratified images of an input; None for one without classes next to generated images with them.

    Raises:
        RequestError: the generated images have no classes, or the strata do not fit the images.
    """
    strata = _get_strata(request, name)
    if isinstance(request.strata, str) and name != "held-out":
        try:
            strata = _number_strata(source.get_class_names(range(len(source))), source.label)
        except RequestError:
            if name != "reference":
                raise
    if strata is None:
        return None
    if len(strata) != len(source):
        raise RequestError(
            f"strata has {len(strata)} entries, and {source.label} has {len(source)} images; expected one per image"
        )
    return Units("stratum", number_stratified_images(strata, request.seed))


def _number_strata(strata: Sequence[str] | np.ndarray, owner: str) -> np.ndarray:
    names, numbers, sizes = np.unique(np.asarray(strata), return_inverse=True, return_counts=True)
    if len(names) == 1:
        raise RequestError(
            f"stratum {names[0]} contains all of {owner}; expected several strata. Leave strata out if the images are not "
            "stratified."
        )
    if sizes.min() < 2:
        raise RequestError(
            f"stratum {names[sizes.argmin()]} of {owner} has one image; expected at least 2 in each stratum. Merge small strata."
        )
    return numbers


def _number(clusters: Sequence[str] | np.ndarray, owner: str) -> np.ndarray:
    names, numbers = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) == len(numbers):
        raise RequestError(
            f"the clusters of {owner} have one image each; expected images that share a cluster. Leave clusters out if the "
            "images are independent."
        )
    return numbers


def _find_named(sources: Mapping[str, ImageSource]) -> list[str]:
    """Return the inputs whose clusters are read from names: both, but not a reference without names next to generated images."""
    named = [name for name in sources if name != "held-out"]
    return named if len(named) == 1 else [name for name in named if name == "generated" or has_names(sources[name])]


def _resolve_clusters(request: SamplingRequest, sources: Mapping[str, ImageSource]) -> dict[str, Units | None]:
    units: dict[str, Units | None] = dict.fromkeys(sources)
    found = _find_clusters(request.cluster_by, sources) if request.cluster_by is not None else {}
    for name, source in sources.items():
        numbers, named = _get_clusters(request, name), found.get(name, "")
        if not isinstance(named, str) and len(set(named)) < len(named):
            numbers = _number(named, source.label)
        if numbers is not None and len(numbers) != len(source):
            raise RequestError(
                f"clusters has {len(numbers)} entries, and {source.label} has {len(source)} images; expected one per image"
            )
        units[name] = None if numbers is None else Units("cluster", numbers)
    if request.cluster_by is not None and not any(units.values()):
        raise RequestError(
            explain_missing_clusters(request.cluster_by, {sources[name].label: each for name, each in found.items()})
        )
    return units


def _find_clusters(cluster_by: str | Path, sources: Mapping[str, ImageSource]) -> dict[str, list[str] | str]:
    """Return the clusters of each input that has names, or the reason why it has none."""
    return {name: find_clusters(cluster_by, sources[name]) for name in _find_named(sources)}

"""How a run deviates from a protocol: one sentence fragment for each difference, with what is given and what is expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from frechet._internal.download import compute_sha256
from frechet.errors import RequestError, WeightsError
from frechet.evaluation.layers import find_embedded_images
from frechet.evaluation.plan import is_pair_metric, request_metric
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.sampling import iter_names
from frechet.features.registry import EXTRACTORS, find_extractor
from frechet.features.spec import get_qualified_name
from frechet.images.decode import decode
from frechet.images.image import ImageSource
from frechet.networks.weights_file import find_weights, is_official_file
from frechet.protocols.protocol import Measurement, Protocol
from frechet.protocols.references import compute_fingerprint, find_reference
from frechet.results import Scores
from frechet.statistics.feature_statistics import FeatureStatistics

_NUM_PROBES = 16  # images whose size is checked before the run; that of all others is checked afterwards


def select_measurements(protocol: Protocol, names: Sequence[str] | None) -> tuple[Measurement, ...]:
    """Return the extractors that compute some metrics; metrics that are not the protocol's are the first one's."""
    if names is None:
        return protocol.measurements
    wanted = set(names) & set(protocol.metrics)
    first = () if len(wanted) == len(set(names)) else protocol.measurements[:1]
    return (*first, *(each for each in protocol.measurements if each not in first and wanted & set(each.metrics)))


def iter_option_deviations(request: ScoreRequest, protocol: Protocol) -> Iterator[str]:
    """Yield how the options that the user passed differ from the protocol's settings."""
    first, *_ = measurements = select_measurements(protocol, request.metric_names)
    metrics = request.metric_names
    if metrics is not None and not _are_allowed(metrics, protocol):
        yield f"metrics {','.join(metrics)} (expected {','.join(protocol.metrics)})"
    yield from _iter_missing_measures(metrics or protocol.metrics, request.device, protocol)
    is_given = request.weights is not None or request.extractor != "inception"  # for the first extractor
    yield from _iter_missing_extractors(measurements[1:] if is_given else measurements, protocol)
    for name, default, expected in (
        ("extractor", "inception", first.extractor),
        ("preprocessing", None, first.preprocessing),
        ("precision", "float32", "float32"),
        ("dims", None, None),
        ("num_images", None, None),
        ("splits", None, None),
        ("repeat", 1, 1),
        ("on_bad_image", "stop", "stop"),
        ("design", "auto", "paired" if protocol.order == "paired" else "auto"),
        ("size", None, protocol.crop_size),
    ):
        value = getattr(request, name)
        if name == "num_images" and _is_number_to_generate(request):
            continue
        if value != default and value not in (expected, *protocol.alternatives.get(name, ())):
            shown = get_qualified_name(value) if name == "extractor" else value
            yield f"{name} {shown} (expected {_describe_expected(name, expected)})"
    for side in ("generated", "reference"):
        crop = getattr(request, f"{side}_crop") or request.crop
        expected = getattr(protocol, f"{side}_crop")
        if crop is not None and crop not in (expected, *protocol.alternatives.get(f"{side}_crop", ())):
            yield f"{side} crop {crop} (expected {expected or 'none'})"


def _are_allowed(metrics: Sequence[str], protocol: Protocol) -> bool:
    """Return whether the metrics are those of the protocol, or a selection that it allows, in any order."""
    allowed = (protocol.metrics, *(names.split(",") for names in protocol.alternatives.get("metrics", ())))
    return any(set(metrics) == set(names) for names in allowed)


def _iter_missing_measures(metrics: Sequence[str], device: str, protocol: Protocol) -> Iterator[str]:
    """Yield that a metric of pairs cannot be computed or has other weights, before the images are read for the others."""
    for name in metrics:
        metric = request_metric(name)
        try:
            if metric.metric.load_pair_measure is not None:
                spec = metric.metric.load_pair_measure(device, **metric.settings).spec
                if spec.is_official is False:
                    yield _describe_weights(
                        spec.extractor, f"with the sha256 {str(spec.weights)[:12]}... of their tensors"
                    )
        except RequestError as error:
            yield _describe_missing(name, str(error), protocol)


def iter_weights_deviations(request: ScoreRequest, protocol: Protocol) -> Iterator[str]:
    """Yield which weights files are not the published ones, before the images are read."""
    for measurement in (measurements := select_measurements(protocol, request.metric_names)):
        is_first = measurement is measurements[0]
        name = request.extractor if is_first and request.extractor != "inception" else measurement.extractor
        given = request.weights if is_first else None
        row = find_extractor(name)
        file = row.model.weights_file if row else None
        try:
            path = find_weights(file, Path(given) if given else None) if file else given
        except WeightsError:  # they will be downloaded, or reported as missing
            continue
        if path is None or (file and (not Path(path).is_file() or is_official_file(Path(path), file))):
            continue
        yield _describe_weights(get_qualified_name(name), f"in {path}")


def _describe_weights(extractor: str | None, which: str) -> str:
    return f"weights of {extractor} {which} (expected the published ones)"


def iter_pair_deviations(
    request: ScoreRequest, protocol: Protocol, inputs: Mapping[str, ImageSource | FeatureStatistics]
) -> Iterator[str]:
    """Yield that a metric of pairs cannot be computed because an input is statistics without its images."""
    for name in filter(is_pair_metric, request.metric_names or protocol.metrics):
        for side, each in inputs.items():
            is_completed = side == "reference" and request.reference_images is not None
            if isinstance(each, FeatureStatistics) and not is_completed and find_embedded_images(each) is None:
                yield _describe_missing(name, f"{each.label} contains statistics, and {name} compares pixels", protocol)


def _iter_missing_extractors(measurements: Sequence[Measurement], protocol: Protocol) -> Iterator[str]:
    """Yield that a metric lacks its network, before the images are read for the others."""
    for measurement in measurements:
        extractor = EXTRACTORS.get(measurement.extractor)  # None if it is outside the table, as in a TOML file
        if extractor is None or extractor.model.downloads_on_use:
            continue
        try:
            extractor.model.check()
        except RequestError as error:
            yield from (_describe_missing(name, str(error), protocol) for name in measurement.metrics)


def _describe_missing(name: str, reason: str, protocol: Protocol) -> str:
    selections = protocol.alternatives.get("metrics", ())
    expected = f"expected {' or '.join((','.join(protocol.metrics), *selections))}; " if selections else ""
    return f"{name} cannot be computed ({expected}{reason.removesuffix('.')})"


def _is_number_to_generate(request: ScoreRequest) -> bool:
    """Return whether `num_images` is how many images a function makes, and not the size of a subset."""
    return callable(request.generated) and not hasattr(request.generated, "__len__")


def _describe_expected(name: str, expected: object) -> object:
    if expected is not None:
        return expected
    return {"num_images": "all images", "size": "no crop"}.get(name, "the default")


def iter_input_deviations(protocol: Protocol, inputs: Mapping[str, ImageSource | FeatureStatistics]) -> Iterator[str]:
    """Yield how the opened inputs differ from what the protocol requires, as far as is known before images are read."""
    generated, reference = inputs["generated"], inputs.get("reference")
    yield from _iter_count_deviations("generated", _count(generated), protocol.n_generated)
    if reference is not None:
        yield from iter_reference_deviations(protocol, protocol.measurements[0], reference)
    if isinstance(generated, ImageSource):
        yield from _iter_size_deviations(generated, protocol.generated_size)
        yield from _iter_class_deviations(generated, protocol)
        if protocol.order == "paired" and isinstance(reference, ImageSource):
            yield from _iter_pair_deviations(generated, reference)


def iter_result_deviations(protocol: Protocol, scores: Scores, known: Sequence[str] = ()) -> Iterator[str]:
    """Yield how the images and weights behind scores differ from what the protocol requires.

    Args:
        protocol: its row.
        scores: the result.
        known: deviations that were found before; weights of the same extractor are not named again.
    """
    for score in scores.values():
        generated = score.provenance["generated"]
        yield from _iter_count_deviations("generated", generated["n"], protocol.n_generated)
        if protocol.generated_size and not generated["crop"]:
            yield from _iter_wrong_sizes(generated["sizes"], protocol.generated_size)
        extractor, weights = score.provenance["extractor"], str(score.provenance["weights"])
        is_known = any(text.startswith(f"weights of {extractor} ") for text in known)
        if score.provenance["is_official"] is False and not is_known:
            yield _describe_weights(extractor, f"with the sha256 {weights[:12]}... of their tensors")
    for name, reason in scores.unavailable.items():
        yield _describe_missing(name, reason, protocol)


def _count(given: ImageSource | FeatureStatistics) -> int | None:
    return given.n if isinstance(given, FeatureStatistics) else len(given)


def _iter_count_deviations(side: str, n: int | None, expected: int | None) -> Iterator[str]:
    if n is not None and expected is not None and n != expected:
        yield f"{n:,} {side} images (expected {expected:,})"


def iter_reference_deviations(
    protocol: Protocol, measurement: Measurement, reference: ImageSource | FeatureStatistics
) -> Iterator[str]:
    """Yield how the opened reference of one extractor differs from what the protocol requires."""
    yield from _iter_count_deviations("reference", _count(reference), protocol.n_reference)
    recorded = reference.spec.preprocessing if isinstance(reference, FeatureStatistics) else None
    expected = measurement.preprocessing
    if recorded not in (None, expected, *protocol.alternatives.get("preprocessing", ())):
        yield f"reference statistics of preprocessing {recorded} (expected {expected})"
    if isinstance(reference, FeatureStatistics) and protocol.reference_crop is not None and reference.sizes:
        names = (protocol.reference_crop, *protocol.alternatives.get("reference_crop", ()))
        allowed = [f"{name}({protocol.crop_size})" for name in names]
        if reference.crop not in allowed:
            yield f"reference statistics with {reference.crop or 'no'} crop (expected {' or '.join(allowed)})"
    name = measurement.reference
    if name is None:
        return
    if isinstance(reference, ImageSource):
        yield f"the reference {reference.label}, which are images (expected statistics: {protocol.reference_title})"
    elif _is_named_reference(reference, name) is False:
        yield f"the reference {reference.label}, which differs from ref:{name} (expected: {protocol.reference_title})"


def _is_named_reference(statistics: FeatureStatistics, name: str) -> bool | None:
    """Return whether statistics are those of a named reference; None if neither its sha256 nor its values are known."""
    known = find_reference(name)
    if known.fingerprint is not None:
        return compute_fingerprint(statistics).values_sha256 == known.fingerprint.values_sha256
    if known.sha256 is None:
        return None
    digest = statistics.sha256 or (compute_sha256(statistics.path) if statistics.path else None)
    return digest == known.sha256


def iter_unverified(
    protocol: Protocol, measurement: Measurement, reference: ImageSource | FeatureStatistics | None
) -> Iterator[str]:
    """Yield what could not be checked about the reference of one extractor."""
    name = measurement.reference
    if name is not None and isinstance(reference, FeatureStatistics) and _is_named_reference(reference, name) is None:
        yield (
            f"{reference.label} is {protocol.reference_title}: no sha256 is published (frechet reference fetch {name} records that of the download)"
        )


def _iter_size_deviations(source: ImageSource, expected: int | None) -> Iterator[str]:
    """Yield that images have another size, from a few of them if they can be read again."""
    if expected is None or source.location is None:
        return
    step = max(1, len(source) // _NUM_PROBES)
    sizes = Counter(
        "{} x {}".format(*decode(image_ref).rgb.shape[:2])
        for image_ref in source.iter_images(range(0, len(source), step))
    )
    yield from _iter_wrong_sizes(sizes, expected)


def _iter_wrong_sizes(sizes: Mapping[str, int], expected: int) -> Iterator[str]:
    right = f"{expected} x {expected}"
    wrong = [size for size in sizes if size != right]
    if wrong:
        yield f"generated images of {wrong[0]} pixels (expected {right})"


def _iter_class_deviations(source: ImageSource, protocol: Protocol) -> Iterator[str]:
    """Yield if the classes are not balanced or the images sorted by class, as far as they have classes."""
    if protocol.images_per_class is None and protocol.order != "unsorted":
        return
    try:
        class_names = source.get_class_names(range(len(source)))
    except RequestError:  # the images have no classes
        return
    if protocol.images_per_class is not None:
        counts = Counter(class_names)
        wrong = next((name for name, count in counts.items() if count != protocol.images_per_class), None)
        if wrong is not None:
            yield f"{counts[wrong]} images of class {wrong} (expected {protocol.images_per_class} of each class)"
    if protocol.order == "unsorted" and _is_sorted(class_names):
        yield "images sorted by class (expected random order, because IS is computed of consecutive images)"


def _is_sorted(class_names: Sequence[str]) -> bool:
    """Return whether the images of each class are consecutive, for two or more classes of which one has several images."""
    n_runs = sum(1 for _ in groupby(class_names))
    return 1 < n_runs == len(set(class_names)) < len(class_names)


def _iter_pair_deviations(generated: ImageSource, reference: ImageSource) -> Iterator[str]:
    names: Iterable[tuple[Any, Any]] = zip(iter_names(generated), iter_names(reference), strict=False)
    for one, other in names:
        if one is not None and other is not None and one != other:
            yield f"names {Path(one).name} and {Path(other).name} at the same position (expected equal names in the same order)"
            return

"""Run a protocol: its settings in place of the defaults, every deviation named, and the record of both in the scores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from frechet._internal.words import join_words
from frechet.errors import RequestError
from frechet.evaluation.addresses import Input
from frechet.evaluation.inputs import cache_generated_images, open_input
from frechet.evaluation.protocol_checks import (
    iter_input_deviations,
    iter_option_deviations,
    iter_pair_deviations,
    iter_reference_deviations,
    iter_result_deviations,
    iter_unverified,
    iter_weights_deviations,
    select_measurements,
)
from frechet.evaluation.request import ReferenceLike, ScoreRequest
from frechet.images.image import ImageSource
from frechet.protocols.protocol import Measurement, Protocol
from frechet.protocols.references import find_reference
from frechet.protocols.registry import find_protocol
from frechet.protocols.relative_distance import RelativeDistances, compute_relative_distances
from frechet.protocols.sentence import format_sentence
from frechet.results import ProtocolRecord, PublishedValues, Scores
from frechet.statistics.feature_statistics import FeatureStatistics

_CROPS = ("generated_crop", "reference_crop")


@dataclass(frozen=True, kw_only=True)
class ProtocolRun:
    """A request that follows a protocol.

    Attributes:
        name: name of the protocol.
        protocol: its row.
        requests: what to compute, one request per extractor.
        relax: whether deviations are recorded instead of rejected.
        deviations: those that are known before anything is computed.
        unverified: what could not be checked about the inputs.
    """

    name: str
    protocol: Protocol
    requests: tuple[ScoreRequest, ...]
    relax: bool
    deviations: tuple[str, ...]
    unverified: tuple[str, ...]

    def finish(self, scores: Scores) -> Scores:
        """Check what was computed, and mark the scores with the protocol.

        Raises:
            RequestError: the images or the weights deviate from the protocol; the message names each deviation.
        """
        deviations = (*self.deviations, *iter_result_deviations(self.protocol, scores, self.deviations))
        _reject(self.name, deviations, self.relax)
        protocol = self.protocol
        relative = compute_relative_distances(
            {key: score.value for key, score in scores.items()}, protocol.validation_fd
        )
        return scores.with_protocol(
            ProtocolRecord(
                name=self.name,
                title=protocol.title,
                source=protocol.source,
                deviations=tuple(dict.fromkeys(deviations)),
                not_computed=(*protocol.not_computed, *_iter_missing_mean(relative)),
                unverified=(*protocol.unverified, *self.unverified),
                note=protocol.note,
                published=tuple(
                    PublishedValues(model=each.model, values=each.values, source=each.source)
                    for each in protocol.published
                ),
                accepted={key: value for key, value in protocol.accepted.items() if key in scores},
                fdr=relative.by_metric,
                mean_fdr=relative.mean,
                sentence=format_sentence(self.name, protocol, scores, deviations, relative.mean),
            )
        )


def _iter_missing_mean(relative: RelativeDistances) -> Iterator[str]:
    """Yield that the mean of the relative distances lacks some of them."""
    if relative.missing:
        n = len(relative.missing) + len(relative.by_metric)
        yield f"FDr-{n}, the mean of {n} distances relative to those of the validation images, without {join_words(relative.missing)}"


def prepare_protocol(request: ScoreRequest) -> ProtocolRun:
    """Find the protocol of a request, open the generated images, and check everything that is known before the run.

    Raises:
        RequestError: an unknown protocol, a missing reference, or deviations that are not relaxed; each is named.
    """
    assert request.protocol is not None
    name, protocol = find_protocol(request.protocol)
    deviations = [*iter_option_deviations(request, protocol)]
    if len(protocol.measurements) > 1:
        request = cache_generated_images(request)
    inputs = _open_inputs(request, name, protocol)
    if isinstance(inputs["generated"], ImageSource):
        deviations += iter_weights_deviations(request, protocol)
    deviations += [*iter_input_deviations(protocol, inputs), *iter_pair_deviations(request, protocol, inputs)]
    measurements = select_measurements(protocol, request.metric_names)
    references = [_open_reference(request, protocol, each, inputs) for each in measurements]
    if "reference" not in inputs:
        for measurement, reference in zip(measurements, references, strict=True):
            if reference is not None:
                deviations += iter_reference_deviations(protocol, measurement, reference)
    _reject(name, deviations, request.relax)
    unverified = [
        text
        for measurement, reference in zip(measurements, references, strict=True)
        for text in iter_unverified(protocol, measurement, reference)
    ]
    return ProtocolRun(
        name=name,
        protocol=protocol,
        requests=tuple(_apply(protocol, each, request, inputs, each is measurements[0]) for each in measurements),
        relax=request.relax,
        deviations=tuple(deviations),
        unverified=tuple(unverified),
    )


def _open_reference(
    request: ScoreRequest, protocol: Protocol, measurement: Measurement, inputs: Mapping[str, Input]
) -> Input | None:
    """Open the reference of one extractor that the user passed; None if it is the named one."""
    if request.reference is None or len(protocol.measurements) == 1:
        return inputs.get("reference")
    given = _select_reference(request.reference, measurement.reference)
    assert given is not None
    return open_input(given, request.settings, features=request.features, keep_all=True, progress=request.progress)


def _open_inputs(request: ScoreRequest, name: str, protocol: Protocol) -> dict[str, Input]:
    """Open what the user passed.

    Raises:
        RequestError: the protocol compares with images, and none are passed.
    """
    is_shared = len(protocol.measurements) == 1  # otherwise each extractor opens its part of the reference
    given = {"generated": request.generated}
    if request.reference is not None and is_shared:
        given["reference"] = request.reference
    if request.reference is None and any(measurement.reference is None for measurement in protocol.measurements):
        raise RequestError(
            f"protocol {name} compares with {protocol.reference_title}, and no reference is given; pass these images (or their "
            "statistics) as the reference"
        )
    return {
        key: open_input(data, request.settings, features=request.features, keep_all=True, progress=request.progress)
        for key, data in given.items()
    }


def _apply(
    protocol: Protocol, measurement: Measurement, request: ScoreRequest, inputs: Mapping[str, Input], is_first: bool
) -> ScoreRequest:
    """Return the request of one extractor; what the user passed takes precedence, since it was checked.

    The extractor, layer, weights, preprocessing and backend that the user passed are those of the first one.
    """
    crops: dict[str, Any] = {each: getattr(request, each) or request.crop or getattr(protocol, each) for each in _CROPS}
    for side, crop in zip(("generated", "reference"), _CROPS, strict=True):
        given = inputs.get(side)
        is_completed = side == "reference" and request.reference_images is not None
        if isinstance(given, FeatureStatistics) and not (is_completed and given.crop is not None):
            crops[crop] = None  # statistics cannot be cropped
        if side == "reference" and request.reference is None:
            crops[crop] = None
    size = request.size or (protocol.crop_size if any(crops.values()) else None)
    return replace(
        request if is_first else replace(request, dims=None, weights=None, backend="auto"),
        protocol=None,
        relax=False,
        generated=inputs["generated"],
        reference=inputs.get("reference", _select_reference(request.reference, measurement.reference)),
        metrics=_select_metrics(measurement, request.metric_names, protocol, is_first),
        extractor=request.extractor if is_first and request.extractor != "inception" else measurement.extractor,
        preprocessing=(request.preprocessing if is_first else None) or measurement.preprocessing,
        precision=measurement.precision if request.precision == "float32" else request.precision,
        work_dir=_get_work_dir(request, protocol, measurement),
        crop=None,
        size=size,
        per_class=request.per_class or protocol.per_class,
        **crops,
    )


def _select_metrics(
    measurement: Measurement, names: Sequence[str] | None, protocol: Protocol, is_first: bool
) -> tuple[str, ...]:
    """Return the metrics of one extractor that the user asks for; those that are not the protocol's are the first one's."""
    if names is None:
        return measurement.metrics
    return tuple(name for name in names if name in measurement.metrics or (is_first and name not in protocol.metrics))


def _select_reference(given: ReferenceLike | None, name: str | None) -> ReferenceLike | None:
    """Return the reference of one extractor: the named one, or its part of the file that the user passed instead."""
    if name is None:
        return given
    if given is None:
        return f"ref:{name}"
    entry = find_reference(name).url.partition("#")[2]
    if entry and isinstance(given, (str, os.PathLike)) and Path(given).suffix.lower() == ".pkl":
        return f"{given}#{entry}"
    return given


def _get_work_dir(request: ScoreRequest, protocol: Protocol, measurement: Measurement) -> str | Path | None:
    """Return the work directory of one extractor: a folder of its own if there are several."""
    if request.work_dir is None or len(protocol.measurements) == 1:
        return request.work_dir
    return Path(request.work_dir, measurement.extractor)


def _reject(name: str, deviations: list[str] | tuple[str, ...], relax: bool) -> None:
    """Raise RequestError if there are deviations and they are not relaxed."""
    found = list(dict.fromkeys(deviations))
    if found and not relax:
        these = "this deviation" if len(found) == 1 else f"these {len(found)} deviations"
        raise RequestError(
            f"the run deviates from protocol {name}: {'; '.join(found)}. Fix {these}, or pass --relax (relax=True) for a score that is "
            "marked as relaxed."
        )

"""What callers get back: scores, with what is needed to interpret and reproduce them, and their JSON form (schema 2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from frechet.errors import RequestError

ESTIMANDS = {  # what the interval of a bias-corrected value is for, by `Score.reference_is`
    "sample": "the distance between the generated and the reference distribution (--reference-is sample)",
    "fixed": "the distance between the generated distribution and this reference as it is (--reference-is fixed)",
}
INTERVAL_NOT_REQUESTED = "not requested"  # a value of `Score.interval_unavailable_reason`
_EXPECTATIONS = {  # what the interval of a value without a bias-corrected one is for
    "sample": "the expected value at these sample sizes",
    "fixed": "the expected value at this number of generated images, with this reference as it is",
}
INTERVAL_FIELDS = (  # of `Score`: those that describe its sampling error, None without an interval
    "corrected_value",
    "standard_error",
    "interval_95",
    "interval_method",
    "reference_is",
    "sampling_design",
    "variance_components",
    "generated_groups",
    "reference_groups",
    "permutation_p_value",
    "n_to_halve_interval",
)
JSON_SCHEMA = 2  # of the JSON objects that `frechet score` and `frechet compare` write


@dataclass(frozen=True, kw_only=True)
class PublishedValues:
    """Values that were published under the same protocol.

    Attributes:
        model: what was measured.
        values: by name of the metric, a value or the range of several.
        source: who published them.
    """

    model: str
    values: Mapping[str, float | tuple[float, float]]
    source: str


@dataclass(frozen=True, kw_only=True)
class ProtocolRecord:
    """The protocol that scores follow.

    Attributes:
        name, title, source: of the protocol.
        deviations: how the run deviates from it; empty if it follows the protocol.
        not_computed: what the protocol lists and was not computed.
        unverified: statements of the protocol that could not be checked at their source.
        note: what else belongs to the protocol.
        published: values that were published under the protocol.
        accepted: by metric, the range in which the protocol accepts a result.
        fdr: by metric, the distance divided by that of the validation images, if the protocol defines it.
        mean_fdr: the mean of these (FDr-6 of six metrics), or None if one of them was not computed.
        sentence: description of the result for a paper.
    """

    name: str
    title: str
    source: str
    deviations: tuple[str, ...]
    not_computed: tuple[str, ...]
    unverified: tuple[str, ...]
    note: str
    published: tuple[PublishedValues, ...]
    accepted: Mapping[str, tuple[float, float]]
    fdr: Mapping[str, float]
    mean_fdr: float | None
    sentence: str

    @property
    def label(self) -> str:
        """The name, marked if the run deviates from the protocol."""
        return f"{self.name} (relaxed)" if self.deviations else self.name


@dataclass(frozen=True, kw_only=True)
class Score:
    """The value of a metric and what is needed to interpret and reproduce it. `float(score)` is the value.

    Attributes:
        metric: name of the metric, e.g. "fid".
        label: display name, e.g. "FID".
        value: the plain value, comparable with published ones at the same number of images.
        corrected_value: the bias-corrected value, or None.
        standard_error: standard error of the bias-corrected value, or of the plain value if there is no bias-corrected one, or None.
        interval_95: (low, high) of the 95 % confidence interval, or None.
        interval_method: how the interval was computed, or None.
        reference_is: what the interval is for: "sample" if for the distance to the distribution that the reference was sampled
            from, "fixed" if for the distance to this reference as it is, whose own sampling error is then not included; None
            without an interval. Without a bias-corrected value, the interval is for the expected value at these sample sizes.
        sampling_design: how the images depend on each other according to the request or to the images themselves, for
            example "independent" or "pairs"; None without an interval.
        interval_unavailable_reason: why there is no interval, or None.
        variance_components: the contributions of the generated and the reference sample to the squared standard error, or None.
            That of pairs is attributed to the reference.
        generated_groups, reference_groups: mean influence of groups of images, from which `frechet compare` computes how the
            errors of two scores with the same reference, or of paired runs, are correlated, or None.
        permutation_p_value: p-value of the hypothesis that both inputs have the same distribution, if it was tested, or None.
        n_to_halve_interval: (generated, reference) numbers of images that would about halve the interval, or None.
        looks: for a sample that grew until its interval was narrow enough, {"n", "corrected_value", "standard_error", "low", "high"}
            at each look; the intervals contain the population value at all looks together with a probability of 95 %.
        influence: the images that raise the value most and those that lower it most, if requested, or None.
        worst_pairs: of a mean over pairs of images, the ten worst pairs as {"value", "source_index", "generated", "reference"}:
            the position in both inputs, counted from 0, and the names of the images.
        terms: parts of the value or further numbers, by name.
        std: standard deviation between splits, subsets or repetitions, or None.
        splits: for each number of splits n of the Inception Score, {"n", "mean", "std"}, if several were requested.
        per_class: value of each class by itself, if requested; classes with too few images are absent.
        repeats: value of each repetition; `value` is then their mean and `std` their standard deviation, and there is no
            bias-corrected value and no interval.
        settings: settings of the metric (splits, neighbours, subsets, ...), by name.
        lower_is_better: the direction of the metric; None if neither direction is better.
        uses_reference: whether the metric compares with a reference.
        n_generated, n_reference: numbers of images; None if a file does not record it, or the metric does not use the input.
        skipped_images: images that could not be decoded, with the reason.
        warnings: human-readable caveats.
        protocol: name of the protocol, with "(relaxed)" if the run deviates from it; None without a protocol.
        provenance: everything that is needed to reproduce the score.

    Examples:
        >>> import numpy as np, frechet
        >>> x, y = np.random.default_rng(0).normal(size=(2, 500, 8)).astype("float32")
        >>> score = frechet.fd(x, y, features=True)
        >>> score.label, score.n_generated, score.lower_is_better
        ('FD (unknown features, d = 8)', 500, True)
        >>> score.corrected_value < score.value  # the small-sample bias
        True
    """

    metric: str
    label: str
    value: float
    corrected_value: float | None = None
    standard_error: float | None = None
    interval_95: tuple[float, float] | None = None
    interval_method: str | None = None
    reference_is: str | None = None
    sampling_design: str | None = None
    interval_unavailable_reason: str | None = None
    variance_components: tuple[float, float] | None = None
    generated_groups: tuple[float, ...] | None = None
    reference_groups: tuple[float, ...] | None = None
    permutation_p_value: float | None = None
    n_to_halve_interval: tuple[int | None, int | None] | None = None
    looks: tuple[Mapping[str, Any], ...] = ()
    influence: Mapping[str, Any] | None = None
    worst_pairs: tuple[Mapping[str, Any], ...] = ()
    terms: Mapping[str, float] = field(default_factory=dict)
    std: float | None = None
    splits: tuple[Mapping[str, float], ...] = ()
    per_class: Mapping[str, float] = field(default_factory=dict)
    repeats: tuple[float, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    lower_is_better: bool | None = None
    uses_reference: bool = True
    n_generated: int | None = None
    n_reference: int | None = None
    skipped_images: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    protocol: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def estimand(self) -> str | None:
        """What the interval is for, in words; None without an interval."""
        texts = _EXPECTATIONS if self.corrected_value is None else ESTIMANDS
        return texts.get(self.reference_is or "")

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.label}: {self.value:.6g}"

    def __repr__(self) -> str:
        corrected = "" if self.corrected_value is None else f", bias-corrected {self.corrected_value:.6g}"
        interval = "" if self.interval_95 is None else ", 95 % CI {:.6g} to {:.6g}".format(*self.interval_95)
        return f"<Score: {self}{corrected}{interval}>"

    def __format__(self, format_spec: str) -> str:
        return format(self.value, format_spec) if format_spec else str(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the metric name and the provenance, which all scores of a run share."""
        return {key: value for key, value in asdict(self).items() if key not in ("metric", "provenance")}


@dataclass(frozen=True, eq=False)
class ImageInfluence:
    """The influence of each generated image on a Fréchet distance.

    Attributes:
        labels: (n,) display names of the images.
        mean, covariance: (n,) float64, change of the distance if the image is left out, through the difference of the means and
            through the covariances; negative for images that raise the distance.
    """

    labels: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray

    def __repr__(self) -> str:
        return f"<ImageInfluence: {len(self.labels):,} images>"

    @property
    def change(self) -> np.ndarray:
        """(n,) float64, total change of the distance if the image is left out."""
        return self.mean + self.covariance

    def top_raising(self, count: int) -> list[dict[str, Any]]:
        """Return the `count` images that raise the distance most, worst first, as {"image", "change", "mean", "covariance"}."""
        return [self._as_row(index) for index in self.rank_images()[0][:count]]

    def top_lowering(self, count: int) -> list[dict[str, Any]]:
        """Return the `count` images that lower the distance most, best first."""
        return [self._as_row(index) for index in self.rank_images()[1][:count]]

    def rank_images(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of the images that raise the distance, worst first, and of those that lower it, best first."""
        change = self.change
        worst, best = np.argsort(change, kind="stable"), np.argsort(-change, kind="stable")
        return worst[change[worst] < 0], best[change[best] > 0]

    def _as_row(self, index: int) -> dict[str, Any]:
        return {
            "image": self.labels[index],
            "change": float(self.change[index]),
            "mean": float(self.mean[index]),
            "covariance": float(self.covariance[index]),
        }


class ScoreUnavailableError(RequestError, KeyError):
    """Access to a metric that the run could not compute; the message gives the reason."""

    __str__ = Exception.__str__  # KeyError would quote it


class Scores(Mapping[str, Score]):
    """The scores of a run by metric, with their common provenance.

    Attributes:
        provenance: everything that is needed to reproduce the scores.
        unavailable: for each requested metric that could not be computed, the reason. Accessing one raises `ScoreUnavailableError`.
        protocol: the protocol that the scores follow, or None.
        renamed: for each requested name that the features do not have ("fid" of another extractor), that of its score ("fd").
            Either name finds the score. Case makes no difference.

    Examples:
        >>> import numpy as np, frechet
        >>> x, y = np.random.default_rng(0).normal(size=(2, 500, 8)).astype("float32")
        >>> scores = frechet.score(x, y, metrics="fd,kid,is", features=True)
        >>> list(scores), list(scores.unavailable)
        (['fd', 'kid'], ['is'])
    """

    def __init__(
        self,
        scores: Mapping[str, Score],
        provenance: Mapping[str, Any],
        unavailable: Mapping[str, str] | None = None,
        protocol: ProtocolRecord | None = None,
        *,
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        self._scores = dict(scores)
        self.provenance = provenance
        self.unavailable = dict(unavailable or {})
        self.protocol = protocol
        self.renamed = dict(renamed or {})

    def __getitem__(self, metric: str) -> Score:
        if metric not in self._scores and isinstance(metric, str):
            metric = self.renamed.get(metric.lower(), metric.lower())
        if metric in self.unavailable:
            raise ScoreUnavailableError(self.unavailable[metric])
        if metric not in self._scores:
            raise ScoreUnavailableError(f"no score {metric!r} in this run; choose from {', '.join(self)}")
        return self._scores[metric]

    def __repr__(self) -> str:
        return f"<Scores: {', '.join(map(str, self.values()))}>"

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def with_scores(self, scores: Mapping[str, Score]) -> Scores:
        """Return other scores of the same run: provenance, protocol and what is unavailable stay."""
        return Scores(scores, self.provenance, self.unavailable, self.protocol, renamed=self.renamed)

    def with_warnings(self, warnings: Iterable[str]) -> Scores:
        """Return the same scores with warnings that apply to all of them."""
        added = tuple(warnings)
        if not added:
            return self
        return self.with_scores(
            {key: replace(score, warnings=(*score.warnings, *added)) for key, score in self.items()}
        )

    def with_protocol(self, protocol: ProtocolRecord) -> Scores:
        """Return the same scores, marked with the protocol that they follow."""
        scores = {key: replace(score, protocol=protocol.label) for key, score in self.items()}
        return Scores(scores, self.provenance, self.unavailable, protocol, renamed=self.renamed)

    def to_dict(self) -> dict[str, Any]:
        """Return {"schema": 2, "scores": {metric: ...}, "unavailable": {metric: reason}, "protocol": ..., "provenance": ...}.

        A score of another extractor has a "provenance" of its own with the entries that differ from the common ones, null for
        those that it does not have.
        """
        return {
            "schema": JSON_SCHEMA,
            "scores": {key: score.to_dict() | self._describe_differences(score) for key, score in self.items()},
            "unavailable": self.unavailable,
            **({"protocol": asdict(self.protocol)} if self.protocol else {}),
            "provenance": dict(self.provenance),
        }

    def _describe_differences(self, score: Score) -> dict[str, Any]:
        keys = dict.fromkeys([*score.provenance, *self.provenance])
        own = {key: score.provenance.get(key) for key in keys if score.provenance.get(key) != self.provenance.get(key)}
        return {"provenance": own} if own else {}

    def to_json(self) -> str:
        """Return one JSON object. It never contains NaN or infinity."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

"""The course of a race: what was measured of each model at each look, and the result that follows from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from frechet.distances.elimination import SuccessiveElimination
from frechet.distances.interval import Interval
from frechet.errors import RequestError
from frechet.evaluation.growing import GrowingSamples, name_model
from frechet.evaluation.layers import LayerStatistics
from frechet.evaluation.race_request import RaceRequest
from frechet.evaluation.race_result import Race, RacedModel, RaceLook, RacePair
from frechet.results import Score, Scores


@dataclass
class RaceCourse:
    """Measurements of growing samples.

    Attributes:
        samples: of the models.
        critical_value: half width of the intervals in standard errors.
        intervals: the last interval of each model.
        looks: the looks so far.
        scores: of the models that are not sampled any further.
    """

    samples: GrowingSamples
    critical_value: float
    intervals: dict[str, Interval] = field(default_factory=dict)
    looks: list[RaceLook] = field(default_factory=list)
    scores: dict[str, Scores] = field(default_factory=dict)
    _layers: dict[str, LayerStatistics] = field(default_factory=dict)

    def measure(self, names: Sequence[str], n: int) -> str:
        """Measure models after n images; return the reason why one of them has no interval yet, or an empty text.

        Raises:
            RequestError: a model has no interval, and more images would not change that.
        """
        reason = ""
        for name in names:
            with name_model(name, self.samples.samples):
                self._layers[name] = self.samples.grow(name, n)
            found = self.samples.estimate(self._layers[name])
            if isinstance(found, str):
                if not self.samples.needs_images(self._layers[name]):
                    raise RequestError(f"{name}: {found}")
                reason = f"{name}: {found}. {self.samples.advise(self._layers[name])}"
            else:
                self.intervals[name] = found.interval(self.critical_value)
        return reason

    def record(self, n: int, intervals: Mapping[str, Interval], left: Sequence[str]) -> None:
        """Record a look at n images of each of these models, after which some of them left the race."""
        self.looks.append(
            RaceLook(
                n_images=n,
                values={name: each.corrected_value for name, each in intervals.items()},
                intervals={name: (each.low, each.high) for name, each in intervals.items()},
                left=tuple(left),
            )
        )
        self.score(left)

    def score(self, names: Iterable[str], *, is_decided: bool = True) -> None:
        """Compute the scores of models whose samples are complete, and discard their statistics (see `GrowingSamples.score`)."""
        for name in names:
            if name in self._layers:
                self.scores[name] = self.samples.score(self._layers.pop(name), is_decided=is_decided)

    def count_images(self, name: str) -> int:
        """Return the number of images of a model that were used."""
        return max(look.n_images for look in self.looks if name in look.values)

    def rank(self, elimination: SuccessiveElimination) -> list[str]:
        """Return the models, best first.

        The order follows all decisions. Among the others, with "best", those that were in the race longest come first, and then
        those with the smallest estimates.
        """
        is_best = elimination.find == "best"
        return elimination.rank(
            {
                name: (-self.count_images(name) if is_best else 0, interval.corrected_value)
                for name, interval in self.intervals.items()
            }
        )


def build_race(request: RaceRequest, course: RaceCourse, elimination: SuccessiveElimination) -> Race:
    """Build the result of a race.

    Args:
        request: what was asked for.
        course: what was measured.
        elimination: what was decided.
    """
    ranking = course.rank(elimination)
    scores = {name: score for name in ranking for score in course.scores[name].values()}
    first = scores[ranking[0]]
    samples = course.samples
    return Race(
        metric=first.metric,
        label=first.label,
        reference=samples.reference["features"].label,
        reference_is=request.reference_is,
        find=request.find,
        alpha=request.alpha,
        max_images=samples.looks[-1],
        critical_value=course.critical_value,
        models=tuple(_build_model(name, score, ranking[0], course, elimination) for name, score in scores.items()),
        pairs=tuple(_build_pair(one, other, course, elimination) for one, other in combinations(ranking, 2)),
        looks=tuple(course.looks),
        notes=_collect_notes(scores),
        provenance=_collect_provenance(scores, request),
    )


def _collect_notes(scores: Mapping[str, Score]) -> tuple[str, ...]:
    """Return the warnings of all models; one that does not hold for each of them starts with the name of its model."""
    general = {name: {each: _generalise(each, score) for each in score.warnings} for name, score in scores.items()}
    common = set.intersection(*(set(each.values()) for each in general.values()))
    notes = [
        text if text in common else f"{name}: {warning}"
        for name, texts in general.items()
        for warning, text in texts.items()
    ]
    return tuple(dict.fromkeys(notes))


def _generalise(warning: str, score: Score) -> str:
    """Replace the label of a model by "the models" where a warning starts with it."""
    label = f"{score.provenance['generated']['label']} "
    if not warning.startswith(label):
        return warning
    rest = warning.removeprefix(label).replace("does not record how it was", "do not record how they were", 1)
    return f"the models {rest.replace('does not record', 'do not record', 1)}"


def _collect_provenance(scores: Mapping[str, Score], request: RaceRequest) -> dict[str, Any]:
    """Return what the scores of all models have in common, and what is known of the images of each."""
    common = dict(next(iter(scores.values())).provenance)
    del common["generated"]
    models = {name: score.provenance["generated"] for name, score in scores.items()}
    return {**common, "models": models, "paired_runs": request.paired_runs}


def _build_model(
    name: str, score: Score, first: str, course: RaceCourse, elimination: SuccessiveElimination
) -> RacedModel:
    interval, pair = course.intervals[name], _build_pair(name, first, course, elimination)
    return RacedModel(
        name=name,
        n_images=course.count_images(name),
        value=score.value,
        corrected_value=interval.corrected_value,
        standard_error=interval.standard_error,
        difference=pair.difference,
        difference_interval=(pair.low, pair.high),
        eliminated_by=elimination.eliminated_by.get(name),
        verdict=_judge(name, course.intervals, elimination),
    )


def _judge(name: str, names: Collection[str], elimination: SuccessiveElimination) -> str:
    """Return what is certain about a model."""
    losses = elimination.count_losses(names)
    if losses[name]:
        return "worse than the best"
    return "not distinguished" if any(not losses[other] for other in names if other != name) else "best"


def _build_pair(one: str, other: str, course: RaceCourse, elimination: SuccessiveElimination) -> RacePair:
    """Build the difference between two models, or between a model and itself."""
    if one == other:
        return RacePair(one=one, other=one, n_images=0, difference=0.0, low=0.0, high=0.0, is_decided=False)
    is_reversed = (other, one) in elimination.differences
    value, low, high = elimination.differences[(other, one) if is_reversed else (one, other)]
    if is_reversed:
        value, low, high = -value, -high, -low
    return RacePair(
        one=one,
        other=other,
        n_images=min(course.count_images(one), course.count_images(other)),
        difference=value,
        low=low,
        high=high,
        is_decided=elimination.is_better(one, other),
    )

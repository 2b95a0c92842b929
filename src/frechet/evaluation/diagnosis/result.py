"""What `frechet.diagnose` returns: the combinations that give a claimed value, those that come close, and what explains the gap."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from frechet.evaluation.diagnosis.axes import Combination
from frechet.evaluation.diagnosis.claim import Claim
from frechet.results import JSON_SCHEMA

_JOINT_AXES = (("preprocessing",), ("generated_crop",), ("reference_crop",), ("rounding",), ("order", "num_images"))


@dataclass(frozen=True, kw_only=True)
class CombinationScore:
    """The value of one combination.

    Attributes:
        settings: the value of each axis in words ("preprocessing", "generated_crop", "reference_crop", "rounding", "order",
            "num_images").
        changes: the axes along which it differs from the baseline.
        value: the score.
        difference: value - claimed value.
        verdict: "match" if the value rounds to the claimed one, "close" if it is within 5 % of it, else "far".
        equivalent: settings of other combinations with the same inputs of the network, and hence the same value.
    """

    settings: Mapping[str, str]
    changes: tuple[str, ...]
    value: float
    difference: float
    verdict: str
    equivalent: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How one difference between the baseline and another combination changes the score.

    Attributes:
        axis: the name of the axis, or "order, num_images".
        baseline, value: what the baseline and the other combination have on this axis.
        change: value of the baseline with this difference alone, minus that of the baseline; None if it was not computed.
        is_estimated: whether it was computed from the subset of a quick run.
    """

    axis: str
    baseline: str
    value: str
    change: float | None
    is_estimated: bool = False


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The combinations that give a claimed value, those that come close, and the differences that explain the gap.

    Attributes:
        metric, label: name and display name of the metric.
        claimed, tolerance: the claimed value, and how far a value that gives it may be from it.
        baseline: the requested settings: what `frechet.score` computes.
        combinations: every distinct combination that was computed; the best explanation first.
        effects: the differences between the baseline and the first of them.
        interaction: the difference of their values that the effects one by one do not add up to; None if an effect is unknown.
        n_combinations: number of combinations that apply, including equivalent and dropped ones.
        n_dropped: number of those that a quick run dropped, because they cannot give the claimed value.
        n_images, n_inputs: numbers of images decoded, and of distinct inputs that the network was run on.
        not_varied: what was not varied, and why.
        skipped_images: images that could not be decoded, with the reason.
        provenance: how the features were computed.
    """

    metric: str
    label: str
    claimed: float
    tolerance: float
    baseline: CombinationScore
    combinations: tuple[CombinationScore, ...]
    effects: tuple[Effect, ...]
    interaction: float | None
    n_combinations: int
    n_dropped: int
    n_images: int
    n_inputs: int
    not_varied: tuple[str, ...]
    skipped_images: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def matches(self) -> tuple[CombinationScore, ...]:
        """The combinations that give the claimed value; empty if none does."""
        return tuple(each for each in self.combinations if each.verdict == "match")

    @property
    def close(self) -> tuple[CombinationScore, ...]:
        """The combinations within 5 % of the claimed value that do not give it, nearest first."""
        return tuple(each for each in self.combinations if each.verdict == "close")

    @property
    def verdict(self) -> str:
        """What was found: "match", "close", or "none" if no combination comes close."""
        return "match" if self.matches else "close" if self.close else "none"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"schema": JSON_SCHEMA, "verdict": self.verdict, **asdict(self)}

    def to_json(self) -> str:
        """Return one JSON object. It never contains NaN or infinity."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)


def rank_combinations(
    values: Mapping[Combination, float],
    classes: Mapping[Combination, object],
    baseline: Combination,
    claim: Claim,
) -> list[tuple[Combination, CombinationScore]]:
    """Return one combination of each class, the best explanation of a claim first.

    A match with few changes of the baseline explains the claim better than one with many; others are ordered by distance.

    Args:
        values: the score of each combination.
        classes: combinations of the same class have the same inputs.
        baseline: the combination to compare with.
        claim: the claimed value.
    """
    members: dict[object, list[Combination]] = {}
    for combination in sorted(values, key=lambda each: len(each.list_changes(baseline))):
        members.setdefault(classes[combination], []).append(combination)
    ranked = [(first, _describe(first, others, values[first], baseline, claim)) for first, *others in members.values()]
    return sorted(
        ranked,
        key=lambda each: (
            each[1].verdict != "match",
            len(each[1].changes) if each[1].verdict == "match" else 0,
            abs(each[1].difference),
        ),
    )


def _describe(
    combination: Combination, equivalent: Sequence[Combination], value: float, baseline: Combination, claim: Claim
) -> CombinationScore:
    return CombinationScore(
        settings=combination.describe(),
        changes=tuple(combination.list_changes(baseline)),
        value=value,
        difference=value - claim.value,
        verdict="match" if claim.gives(value) else "close" if claim.is_close(value) else "far",
        equivalent=tuple(each.describe() for each in equivalent),
    )


def explain_difference(
    best: Combination,
    baseline: Combination,
    values: Mapping[Combination, float],
    estimates: Mapping[Combination, float],
) -> tuple[tuple[Effect, ...], float | None]:
    """Attribute the difference between two combinations to the axes along which they differ.

    Args:
        best, baseline: the combinations; their values are known.
        values: scores by combination.
        estimates: scores of a subset of the images, for combinations that are not in `values`.

    Returns:
        The effect of each difference by itself, and the remainder: what they do together but not alone (None if unknown).
    """
    changed = [axes for axes in _JOINT_AXES if any(getattr(best, axis) != getattr(baseline, axis) for axis in axes)]
    effects = tuple(_compute_effect(axes, best, baseline, values, estimates) for axes in changed)
    changes = [each.change for each in effects if each.change is not None and not each.is_estimated]
    remainder = values[best] - values[baseline] - sum(changes)
    return effects, remainder if len(changes) == len(effects) else None


def _compute_effect(
    axes: Sequence[str],
    best: Combination,
    baseline: Combination,
    values: Mapping[Combination, float],
    estimates: Mapping[Combination, float],
) -> Effect:
    alone = replace(baseline, **{axis: getattr(best, axis) for axis in axes})
    known = values if alone in values else estimates
    is_known = alone in known and baseline in known
    before, after = baseline.describe(), best.describe()
    return Effect(
        axis=", ".join(axis for axis in axes if before[axis] != after[axis]),
        baseline=", ".join(before[axis] for axis in axes if before[axis] != after[axis]),
        value=", ".join(after[axis] for axis in axes if before[axis] != after[axis]),
        change=known[alone] - known[baseline] if is_known else None,
        is_estimated=is_known and known is estimates,
    )

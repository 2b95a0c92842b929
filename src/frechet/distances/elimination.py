"""Successive elimination: which of several models has the smallest distance, from intervals of their differences.

The intervals hold for all pairs and at all looks together with probability 1 - α. A model that is worse than another one by such an
interval is not the best, and needs no further images (Even-Dar, Mannor & Mansour 2006, JMLR 7).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations

from frechet.distances.sequential import EstimateWithBounds, difference_interval

FIND = ("best", "all-pairs")


def count_pairs(num_models: int) -> int:
    """Return the number of differences whose intervals hold together."""
    return num_models * (num_models - 1) // 2


def independent(_one: str, _other: str) -> float:
    """Return the scale of the error of a difference between two models that have no error in common."""
    return 1.0


class SuccessiveElimination:
    """What is known about the order of models, look by look.

    Args:
        names: the models.
        find: "best" to sample a model until it is worse than another one or the only one left; "all-pairs" to sample it until
            it differs from every other one.

    Attributes:
        active: models that are still sampled.
        differences: by (one, other) in the order of `names`, the last interval of one - other.
        better: by (one, other), the one that is better; only pairs that are decided.
        eliminated_by: for each model that is not the best, one that was better when this was decided; only with "best".
    """

    def __init__(self, names: Sequence[str], find: str = "best") -> None:
        self.find = find
        self.active = list(names)
        self.differences: dict[tuple[str, str], EstimateWithBounds] = {}
        self.better: dict[tuple[str, str], str] = {}
        self.eliminated_by: dict[str, str] = {}

    @property
    def is_decided(self) -> bool:
        """Whether no model needs further images."""
        return len(self.active) < 2

    def is_better(self, one: str, other: str) -> bool:
        """Return whether it is decided that one model is better than another one."""
        return one in (self.better.get((one, other)), self.better.get((other, one)))

    def count_losses(self, names: Collection[str]) -> dict[str, int]:
        """Return for each of these models how many others of them are better than it, as far as this is decided."""
        return {name: sum(other != name and self.is_better(other, name) for other in names) for name in names}

    def rank(self, preference: Mapping[str, tuple[float, ...]]) -> list[str]:
        """Return the models in an order that follows every decision: a model comes after those that are better than it.

        Args:
            preference: by model, what orders those between which nothing is decided, smallest first.
        """
        left, ranking = list(preference), []
        while left:
            losses = self.count_losses(left)
            ranking.append(min(left, key=lambda name: (losses[name], preference[name])))
            left.remove(ranking[-1])
        return ranking

    def update(
        self,
        estimates: Mapping[str, EstimateWithBounds],
        scale: Callable[[str, str], float] = independent,
    ) -> list[str]:
        """Compare the active models at a look.

        Args:
            estimates: of each active model.
            scale: function of two models that returns the `scale` of their difference (see `difference_interval`).

        Returns:
            The models that need no further images from here on, the best one among them if it is the only one left.
        """
        for one, other in combinations(self.active, 2):
            found = difference_interval(estimates[one], estimates[other], scale(one, other))
            self.differences[one, other] = found
            if not found.low <= 0 <= found.high:
                self.better.setdefault((one, other), one if found.high < 0 else other)
        left = self._find_worse(estimates) if self.find == "best" else self._find_ranked()
        self.active = [name for name in self.active if name not in left]
        if self.find == "best" and self.is_decided:
            left += self.active
        return left

    def _find_worse(self, estimates: Mapping[str, EstimateWithBounds]) -> list[str]:
        """Return the active models that another one is better than, and record the best of these others."""
        worse = []
        for name in self.active:
            winners = [other for other in self.active if other != name and self.is_better(other, name)]
            if winners:
                self.eliminated_by[name] = min(winners, key=lambda each: estimates[each].value)
                worse.append(name)
        return worse

    def _find_ranked(self) -> list[str]:
        """Return the active models that differ from all others."""
        return [
            name
            for name in self.active
            if all(name == other or self.is_better(name, other) or self.is_better(other, name) for other in self.active)
        ]

"""Successive elimination: which models stay in a race, given the intervals of their estimates."""

import pytest

from frechet.distances.elimination import SuccessiveElimination, count_pairs
from frechet.distances.sequential import EstimateWithBounds


def estimates(half_width, **values):
    return {name: EstimateWithBounds(value, value - half_width, value + half_width) for name, value in values.items()}


def test_there_are_as_many_differences_as_pairs():
    assert [count_pairs(n) for n in (2, 3, 8)] == [1, 3, 28]


def test_a_model_that_is_worse_than_another_one_leaves():
    """The half width of a difference is √2 of that of the estimates: 1.41."""
    race = SuccessiveElimination(["a", "b", "c"])
    assert race.update(estimates(1, a=5, b=5.5, c=7)) == ["c"]
    assert race.eliminated_by == {"c": "a"}
    assert (race.active, race.is_decided) == (["a", "b"], False)
    assert race.update(estimates(0.3, a=5, b=5.5)) == ["b", "a"]
    assert (race.active, race.is_decided) == (["a"], True)
    assert race.differences["a", "b"] == pytest.approx((-0.5, -0.5 - 0.3 * 2**0.5, -0.5 + 0.3 * 2**0.5))


def test_nobody_leaves_while_intervals_of_differences_contain_zero():
    race = SuccessiveElimination(["a", "b"])
    assert race.update(estimates(1, a=5, b=6.41)) == []
    assert race.better == {}


def test_a_full_ranking_samples_models_until_they_differ_from_all_others():
    race = SuccessiveElimination(["a", "b", "c"], "all-pairs")
    assert race.update(estimates(1, a=5, b=5.5, c=7.1)) == ["c"]
    assert race.eliminated_by == {}
    assert race.better == {("a", "c"): "a", ("b", "c"): "b"}
    assert set(race.update(estimates(0.1, a=5.5, b=5))) == {"a", "b"}
    assert race.is_decided
    assert race.better["a", "b"] == "b"


def test_a_decision_stands_when_later_estimates_are_close():
    race = SuccessiveElimination(["a", "b", "c"], "all-pairs")
    race.update(estimates(1, a=5, b=8, c=6))
    race.update(estimates(1, a=5, b=6, c=6))
    assert race.better == {("a", "b"): "a", ("b", "c"): "c"}


def test_errors_in_common_make_differences_certain():
    race = SuccessiveElimination(["a", "b"])
    assert race.update(estimates(1, a=5, b=5.5), lambda *_: 0.3) == ["b", "a"]


def test_the_ranking_follows_every_decision_before_the_preference():
    """b lost twice and c once, to b: the number of losses alone would put c first."""
    race = SuccessiveElimination(["a", "b", "c", "d"], "all-pairs")
    race.better = {("a", "b"): "a", ("b", "d"): "d", ("b", "c"): "b"}
    assert race.rank({"a": (2,), "b": (1,), "c": (0,), "d": (3,)}) == ["a", "d", "b", "c"]
    assert race.count_losses("abcd") == {"a": 0, "b": 2, "c": 1, "d": 0}

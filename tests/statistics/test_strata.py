import numpy as np

from frechet.statistics.group_moments import assign_groups
from frechet.statistics.strata import get_strata, number_stratified_images


def test_numbers_hold_the_stratum_and_spread_it_evenly_over_the_groups():
    random = np.random.default_rng(0)
    strata = random.permutation(np.repeat(np.arange(30), np.arange(2, 62, 2)))
    numbers = number_stratified_images(strata, seed=3)
    assert len(set(numbers.tolist())) == len(strata)
    np.testing.assert_array_equal(get_strata(numbers), strata)
    groups = assign_groups(numbers, seed=3)
    for stratum in range(30):
        counts = np.bincount(groups[strata == stratum], minlength=10)
        assert counts.max() - counts.min() <= 1
    totals = np.bincount(groups)
    assert totals.max() < 1.3 * totals.min()  # small strata do not all begin with the same group

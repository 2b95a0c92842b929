"""Products that skip half of the numbers agree with those of full matrices."""

import numpy as np
import pytest

from frechet.distances.triangular import (
    matmul_factor,
    matmul_factor_transpose,
    symmetric_matmul_factor_transpose,
)

SHAPES = [(517, 517), (12, 12), (5, 12)]  # from 512 dimensions on, in eight blocks, of which the last is narrower


def draw_factor(rows, d):
    factor = np.random.default_rng(0).standard_normal((rows, d))
    return np.triu(factor) if rows == d else factor


def draw_symmetric(d):
    matrix = np.random.default_rng(1).standard_normal((d, d))
    return matrix + matrix.T


@pytest.mark.parametrize(("rows", "d"), SHAPES)
def test_products_with_a_factor_are_those_of_the_full_matrix(rows, d):
    random, factor = np.random.default_rng(2), draw_factor(rows, d)
    left, right = random.standard_normal((20, d)), random.standard_normal((20, rows))
    np.testing.assert_allclose(matmul_factor_transpose(left, factor), left @ factor.T, atol=1e-11)
    np.testing.assert_allclose(matmul_factor(right, factor), right @ factor, atol=1e-11)


@pytest.mark.parametrize(("rows", "d"), SHAPES)
def test_the_symmetric_product_is_that_of_full_matrices(rows, d):
    factor, symmetric = draw_factor(rows, d), draw_symmetric(d)
    expected = factor @ symmetric @ factor.T
    found = symmetric_matmul_factor_transpose(factor @ symmetric, factor)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())

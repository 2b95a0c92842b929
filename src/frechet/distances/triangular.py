"""Products with triangular factors that skip half of the numbers, block by block.

Array libraries only have products of full matrices. Blocks are as large as possible, because small products are slow.
"""

from __future__ import annotations

from jaxtyping import Float

from frechet.distances.gaussian import Array, get_namespace

_NUM_BLOCKS = 8  # with b blocks, 1/b of the numbers to be skipped are computed nevertheless
_MIN_DIMS = 64 * _NUM_BLOCKS  # of a matrix that is split


def matmul_factor_transpose(left: Float[Array, "b d"], factor: Float[Array, "r d"]) -> Float[Array, "b r"]:
    """Compute `left @ factor.T`, at about half the cost if the factor is triangular.

    Args:
        left: (b, d) matrix.
        factor: (r, d) factor of a `Gaussian`; upper triangular if r = d.
    """
    if not _is_split(factor):
        return left @ factor.T
    columns = [left[:, each.start :] @ factor[each, each.start :].T for each in _split(factor.shape[1])]
    return get_namespace(left).concat(columns, axis=1)


def matmul_factor(left: Float[Array, "b r"], factor: Float[Array, "r d"]) -> Float[Array, "b d"]:
    """Compute `left @ factor`, at about half the cost if the factor is triangular.

    Args:
        left: (b, r) matrix.
        factor: (r, d) factor of a `Gaussian`; upper triangular if r = d.
    """
    if not _is_split(factor):
        return left @ factor
    transposed = [factor[: each.stop, each].T @ left[:, : each.stop].T for each in _split(factor.shape[1])]
    return get_namespace(left).concat(transposed).T  # rows are joined faster than columns


def symmetric_matmul_factor_transpose(left: Float[Array, "r d"], factor: Float[Array, "r d"]) -> Float[Array, "r r"]:
    """Compute `left @ factor.T`, which is known to be symmetric, at about a sixth of the cost if the factor is triangular.

    Args:
        left: (r, d) matrix.
        factor: (r, d) factor of a `Gaussian`; upper triangular if r = d.
    """
    if not _is_split(factor):
        return left @ factor.T
    xp, split = get_namespace(left), _split(factor.shape[1])
    upper = [left[: each.stop, each.start :] @ factor[each, each.start :].T for each in split]
    rows = [
        xp.concat([block.T, *(further[each, :] for further in upper[i + 1 :])], axis=1)
        for i, (each, block) in enumerate(zip(split, upper, strict=True))
    ]
    return xp.concat(rows)


def _is_split(factor: Float[Array, "r d"]) -> bool:
    """Return whether a factor is triangular and large enough."""
    return factor.shape[0] == factor.shape[1] >= _MIN_DIMS


def _split(d: int) -> list[slice]:
    """Return the blocks of d rows or columns."""
    size = -(-d // _NUM_BLOCKS)
    return [slice(start, min(start + size, d)) for start in range(0, d, size)]

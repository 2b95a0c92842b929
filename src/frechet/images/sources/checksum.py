"""The CRC-32 of bytes whose parts are read by several threads."""

from __future__ import annotations

import zlib
from functools import lru_cache

_Matrix = tuple[int, ...]  # over GF(2): (32,) columns, each an integer of 32 bits


def join_crc32(first: int, second: int, n_bytes: int) -> int:
    """Return the CRC-32 of two byte strings, one after the other.

    CRC-32 is linear: that of `a + b` is that of `b`, plus that of `a` multiplied by a matrix which only depends on the length of `b`
    (as in zlib's crc32_combine).

    Args:
        first: CRC-32 of the first string.
        second: CRC-32 of the second one.
        n_bytes: length of the second one.
    """
    return _multiply(_matrix_of_zeros(n_bytes), first) ^ second


@lru_cache(maxsize=8)
def _matrix_of_zeros(n_bytes: int) -> _Matrix:
    """Return the matrix by which as many zero bytes multiply a CRC-32, from that of one byte by repeated squaring."""
    power = tuple(zlib.crc32(b"\0", 1 << bit) ^ zlib.crc32(b"\0") for bit in range(32))
    product = tuple(1 << bit for bit in range(32))
    while n_bytes:
        if n_bytes & 1:
            product = tuple(_multiply(power, column) for column in product)
        power = tuple(_multiply(power, column) for column in power)
        n_bytes >>= 1
    return product


def _multiply(matrix: _Matrix, vector: int) -> int:
    """Multiply a matrix by a vector of 32 bits."""
    product = 0
    for column in matrix:
        if vector & 1:
            product ^= column
        vector >>= 1
    return product

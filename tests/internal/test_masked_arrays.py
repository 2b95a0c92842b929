"""Masked arrays are recognized, and nothing is imported for those who have none."""

import sys

import numpy as np

from frechet._internal.masked_arrays import is_masked


def test_only_arrays_with_masked_values_are_masked():
    values = np.arange(4)
    assert is_masked(np.ma.masked_array(values, values > 2))
    assert not is_masked(np.ma.masked_array(values, False))
    assert not is_masked(values)


def test_numpy_ma_is_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "numpy.ma", raising=False)
    assert not is_masked(np.arange(4))
    assert "numpy.ma" not in sys.modules

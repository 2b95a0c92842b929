"""Features that a function generates, each row once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from frechet.errors import GeneratorError
from frechet.images.sources.generator import GENERATED_PER_CALL, call_generator


class FeatureFunction:
    """Rows of a function that returns as many rows of features as it is asked for, in the order in which it returns them.

    Args:
        generate: function that takes n and returns features (n, d), floating point.
        count: number of rows in all.
    """

    def __init__(self, generate: Callable[[int], Any], count: int) -> None:
        self.generate, self.count = generate, count
        self._num_generated = 0
        self._blocks: list[np.ndarray] = []

    def peek(self) -> np.ndarray:
        """Return the rows of the first call, (n, d) float32; `take` returns them as well."""
        if not self._num_generated:
            self._call()
        return self._blocks[0]

    def take(self, count: int) -> np.ndarray:
        """Return the next rows, (count, d) float32."""
        blocks = self._blocks
        while sum(map(len, blocks)) < count:
            self._call()
        rows = np.concatenate([*blocks, np.empty((0, blocks[0].shape[1]), np.float32)]) if blocks else np.empty((0, 0))
        self._blocks = [rows[count:]]
        return rows[:count]

    def _call(self) -> None:
        count = min(GENERATED_PER_CALL, self.count - self._num_generated)
        rows = self._validate(call_generator(self.generate, count, "features"))
        self._num_generated += count
        self._blocks.append(rows)

    def _validate(self, returned: Any) -> np.ndarray:
        """Convert what the function returned to (n, d) float32, in memory that the function cannot use again.

        Raises:
            GeneratorError: it is not an array of finite features with the columns of the earlier rows.
        """
        array = np.asarray(returned.detach().cpu() if hasattr(returned, "detach") else returned)
        d = self._blocks[0].shape[1] if self._blocks else None
        if array.ndim != 2 or not array.shape[1] or array.dtype.kind != "f" or d not in (None, array.shape[1]):
            raise GeneratorError(
                f"the function that generates features returned dtype {array.dtype} and shape {array.shape}; expected floating-point "
                f"features (n, {d or 'd'}), one row per image. For a function that returns images, leave --features (features=True) out."
            )
        with np.errstate(over="ignore"):
            rows = array.astype(np.float32)
        is_finite = np.isfinite(rows).all(axis=1)
        if not is_finite.all():
            raise GeneratorError(
                f"the function that generates features: row {self._num_generated + int(is_finite.argmin())} (counted from 0) contains "
                "NaN, infinity or a value beyond float32; expected finite features"
            )
        return rows

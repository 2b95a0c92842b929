"""Size and kind of the population of a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frechet._internal.choices import validate_choice
from frechet.errors import RequestError
from frechet.losses.validation import validate_count

_REPLACED_UNDER_ONE_MAP = 0.25  # largest share of the population


@dataclass(frozen=True, kw_only=True)
class PopulationSettings:
    """How the features of earlier batches are kept.

    Attributes:
        size: number of rows of the population, at least one batch.
        memory: "queue" for the last `size` rows, or "ema" for an exponential moving average of the moments of all batches.
        decay: factor of the weights of earlier batches in the moving average; None for 1 - n / size at a batch of n rows.
        refresh: number of batches after which the transport map is computed again, or fewer (see `is_due`).

    Raises:
        RequestError: a value is invalid, or a decay is passed for a queue.
    """

    size: int = 50_000
    memory: str = "queue"
    decay: float | None = None
    refresh: int = 1

    def __post_init__(self) -> None:
        validate_choice(self.memory, ("queue", "ema"), "memory")
        validate_count("population", self.size, 2)
        validate_count("refresh", self.refresh)
        if self.memory == "queue" and self.decay is not None:
            raise RequestError(
                f"decay is {self.decay!r}, but memory is 'queue', which keeps rows unchanged; pass memory='ema'"
            )
        if self.decay is not None and not 0 <= self.decay < 1:
            raise RequestError(f"decay is {self.decay!r}; expected a number from 0 to below 1, e.g. 0.98")

    def validate_batch(self, n: int) -> None:
        """Check that a batch of n rows is not larger than the population.

        Raises:
            RequestError: it is.
        """
        if self.decay is None and n > self.size:
            raise RequestError(
                f"a batch has {n} images and the population {self.size}; expected a population of at least one batch. Pass a "
                f"population of {n} or more."
            )

    def steady_share(self, n: int) -> float:
        """Return the weight of a batch of n rows in a full population."""
        return n / self.size if self.decay is None else 1 - self.decay

    def is_due(self, replaced_share: Any, share: Any, n: int) -> Any:
        """Return whether a step of n rows computes the map: every `refresh` batches, or when a quarter of the population changes.

        While the population fills, a batch is a larger part of it, so that the map is computed more often.

        Args:
            replaced_share: part of the population that was replaced since the map was computed, before this step.
            share: weight of the batch.
            n: number of rows of the batch.
        """
        steady = self.steady_share(n)
        limit = min(self.refresh * steady, _REPLACED_UNDER_ONE_MAP)
        return replaced_share + share > limit - 0.5 * steady  # half a batch for rounding

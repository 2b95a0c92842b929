"""The population of a loss: the features of earlier batches as a queue of rows, or as an exponential moving average."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch

from frechet.distances.population import PopulationMoments, compute_moments, mix, remove
from frechet.losses.population_settings import PopulationSettings
from frechet.losses.torch_exact import ExactModule


class Step(NamedTuple):
    """What a batch is added to.

    Attributes:
        rest: moments of the rows that stay.
        share: weight of the batch in the population, in 0..1.
    """

    rest: PopulationMoments
    share: float


class Memory(ExactModule):
    """Moments of the features of earlier batches, which carry no gradient.

    Args:
        settings: size and kind of the population.
        dims: number of features d.
    """

    _stays_off_mps = True
    mean: torch.Tensor
    covariance: torch.Tensor

    def __init__(self, settings: PopulationSettings, dims: int) -> None:
        super().__init__()
        self.settings = settings
        self.weight_squares = 1.0
        self.register_buffer("mean", torch.zeros(dims, dtype=torch.float64))
        self.register_buffer("covariance", torch.zeros(dims, dims, dtype=torch.float64))

    @property
    def moments(self) -> PopulationMoments:
        """Moments of all rows."""
        return PopulationMoments(self.mean, self.covariance, self.weight_squares)

    @abstractmethod
    def prepare(self, n: int) -> Step:
        """Return what a batch of n rows is added to, without adding it."""

    def add(self, rows: torch.Tensor, step: Step) -> None:
        """Add a batch.

        Args:
            rows: (n, d) features, float64.
            step: the result of `prepare`.
        """
        moments = mix(step.rest, compute_moments(rows), step.share)
        self.mean, self.covariance, self.weight_squares = moments


class QueueMemory(Memory):
    """The last rows, in float32, of which a batch replaces the oldest."""

    rows: torch.Tensor

    def __init__(self, settings: PopulationSettings, dims: int) -> None:
        super().__init__(settings, dims)
        self.count = self.position = 0
        self.register_buffer("rows", torch.zeros(settings.size, dims, dtype=torch.float32))

    def prepare(self, n: int) -> Step:
        self.settings.validate_batch(n)
        n_replaced = max(0, self.count + n - self.settings.size)
        kept = self.count - n_replaced
        rest = self.moments
        if kept and n_replaced:
            oldest = self._next_indices(n)[n - n_replaced :]
            rest = remove(rest, compute_moments(self.rows[oldest].double()), n_replaced / self.count)
        return Step(rest, n / (kept + n))

    def add(self, rows: torch.Tensor, step: Step) -> None:
        stored = rows.to(torch.float32)
        self.rows[self._next_indices(len(rows))] = stored
        self.count = min(self.count + len(rows), self.settings.size)
        self.position = (self.position + len(rows)) % self.settings.size
        super().add(stored.double(), step)

    def get_extra_state(self) -> dict[str, Any]:
        return {"weight_squares": self.weight_squares, "count": self.count, "position": self.position}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.weight_squares, self.count, self.position = state["weight_squares"], state["count"], state["position"]

    def _next_indices(self, n: int) -> torch.Tensor:
        return (self.position + torch.arange(n, device=self.rows.device)) % self.settings.size


class EmaMemory(Memory):
    """An exponential moving average of the moments of all batches, with weights that add up to 1 from the first batch on."""

    def __init__(self, settings: PopulationSettings, dims: int) -> None:
        super().__init__(settings, dims)
        self.total_weight = 0.0

    def prepare(self, n: int) -> Step:
        self.settings.validate_batch(n)
        new = self.settings.steady_share(n)
        return Step(self.moments, new / ((1 - new) * self.total_weight + new))

    def add(self, rows: torch.Tensor, step: Step) -> None:
        new = self.settings.steady_share(len(rows))
        self.total_weight = (1 - new) * self.total_weight + new
        super().add(rows, step)

    def get_extra_state(self) -> dict[str, Any]:
        return {"weight_squares": self.weight_squares, "total_weight": self.total_weight}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.weight_squares, self.total_weight = state["weight_squares"], state["total_weight"]


def make_memory(settings: PopulationSettings, dims: int) -> Memory:
    """Return an empty memory for rows of `dims` features."""
    return QueueMemory(settings, dims) if settings.memory == "queue" else EmaMemory(settings, dims)

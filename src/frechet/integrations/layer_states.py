"""The states of a training-loop metric: sums and rows of the features of one layer of one set of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torchmetrics import Metric

from frechet._internal.words import count_of
from frechet.distances.gaussian import FLOAT64_EPS
from frechet.errors import TooFewImagesError
from frechet.features.spec import FeatureSpec
from frechet.integrations.group_state import accumulate_groups, pack_groups, packed_size
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.statistics.group_moments import MIN_IMAGES_PER_DIM
from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import MAX_SAMPLE_ROWS, RowSample, row_sample_size
from frechet.version import __version__


@dataclass(frozen=True, kw_only=True)
class LayerStates:
    """Names and sizes of the states of one layer of one set of images, which a `torchmetrics.Metric` stores.

    The sums are float64 and are added over ranks; the rows are concatenated over ranks, any number on each. The images whose rows
    are dropped are added to the moments of their groups, each rank's below those of the others.

    Attributes:
        image_set: "generated" or "real".
        spec: what identifies the features.
        dims: number of features d per image.
        keeps_all_rows: whether a metric needs the features of every image. Otherwise, a sample of at most
            max(8 d, 8192) rows is kept for the interval, next to the moments of groups of the other images.
        is_main: whether the layer is the one that the metric object is about.
    """

    image_set: str
    spec: FeatureSpec
    dims: int
    keeps_all_rows: bool
    is_main: bool = True

    @property
    def sum_names(self) -> tuple[str, str, str]:
        """Names of the number of images, of the sum of features, and of the sum of their outer products."""
        return self._name("n"), self._name("total"), self._name("outer")

    @property
    def row_names(self) -> tuple[str, str, str]:
        """Names of the features of single images, of the indices of these images, and of the groups of the other images."""
        return self._name("rows"), self._name("indices"), self._name("groups")

    def _name(self, part: str) -> str:
        return f"{self.image_set}_{part}" if self.is_main else f"{self.image_set}_{self.spec.layer}_{part}"

    def add_to(self, metric: Metric) -> None:
        """Add the states to a metric, as those of no image."""
        n, total, outer = self.sum_names
        metric.add_state(n, torch.zeros((), dtype=torch.int64), "sum")
        metric.add_state(total, torch.zeros(self.dims, dtype=torch.float64), "sum")
        metric.add_state(outer, torch.zeros(self.dims, self.dims, dtype=torch.float64), "sum")
        zero = torch.zeros((), dtype=torch.float64)
        metric._defaults[total] = zero.expand(
            self.dims
        )  # zeros that take no memory in each of many copies of the metric
        metric._defaults[outer] = zero.expand(self.dims, self.dims)
        for name in self.row_names:
            metric.add_state(name, [], "cat")

    def add_empty_rows(self, metric: Metric) -> None:
        """Give a rank without images rows of the right width, which can be concatenated with those of other ranks."""
        for name in self.row_names:
            if not getattr(metric, name):
                setattr(metric, name, [self._get_state(metric, name)])

    def _get_state(self, metric: Metric, name: str) -> torch.Tensor:
        """Return a list state as one tensor; after synchronisation torchmetrics has concatenated it already."""
        state = getattr(metric, name)
        if isinstance(state, torch.Tensor):
            return state
        rows, _, groups = self.row_names
        if name == groups:  # on the device of the sums, because MPS has no float64
            like = getattr(metric, self.sum_names[1])
            return torch.cat([*state, like.new_empty((0, packed_size(self.dims)))])
        empty = torch.empty((0, self.dims)) if name == rows else torch.empty((0,), dtype=torch.int64)
        return torch.cat([*state, empty.to(metric.device)])

    def accumulate(self, metric: Metric, features: torch.Tensor) -> None:
        """Add the features (n, d) of a batch."""
        n, total, outer = (_make_writable(metric, name) for name in self.sum_names)
        wide = features.to(total.device).double()
        total += wide.sum(dim=0)
        outer.addmm_(wide.T, wide)
        rank, world_size = get_rank()
        first = int(n)
        n += len(features)
        indices = (first + torch.arange(len(features), device=features.device)) * world_size + rank
        rows, row_indices, _ = (getattr(metric, name) for name in self.row_names)
        rows.append(features)
        row_indices.append(indices)
        if not self.keeps_all_rows and sum(map(len, rows)) >= max(8 * self.dims, 2 * MAX_SAMPLE_ROWS):
            self._drop_rows(metric)

    def _drop_rows(self, metric: Metric) -> None:
        """Keep a sample of the rows, and add the others to the moments of their groups."""
        states = [self._get_state(metric, name) for name in self.row_names]
        rows, indices, groups = (state.cpu().numpy() for state in states)
        sample = RowSample.empty(self.dims, 0, MAX_SAMPLE_ROWS).update(indices, rows)
        is_dropped = ~np.isin(indices, sample.indices)
        merged = pack_groups(accumulate_groups(groups, rows[is_dropped], indices[is_dropped]))
        for name, state, kept in zip(self.row_names, states, (sample.rows, sample.indices, merged), strict=True):
            setattr(metric, name, [torch.from_numpy(kept).to(state.device)])

    def collect(self, metric: Metric, *, has_rows: bool = True) -> FeatureStatistics:
        """Return the statistics of the images of this rank or, once synchronised, of all ranks.

        Args:
            metric: the metric that stores the states.
            has_rows: whether the rows were synchronised as well.

        Raises:
            TooFewImagesError: there are fewer than two images.
        """
        n = int(getattr(metric, self.sum_names[0]))
        if n < 2:
            raise TooFewImagesError(
                f"got {count_of(n, f'{self.image_set} image')}; at least 2 are required. Pass them to "
                f"update(images, real={self.image_set == 'real'})."
            )
        total, outer = (getattr(metric, name).cpu().numpy() for name in self.sum_names[1:])
        mean = total / n
        moments = RunningMoments(n, mean, outer - n * np.outer(mean, mean))
        return FeatureStatistics(
            mean=mean,
            covariance=moments.covariance,
            n=n,
            **(self._collect_rows(metric, n) if has_rows else {}),
            n_units=n,
            spec=self.spec,
            label=f"{self.image_set} images of a training loop",
            made_by=f"frechet {__version__}",
            covariance_eps=_compute_resolution(moments),
        )

    def _collect_rows(self, metric: Metric, n: int) -> dict[str, Any]:
        rows, indices, state = (self._get_state(metric, name).cpu().numpy() for name in self.row_names)
        limit = n if self.keeps_all_rows else row_sample_size(n, self.dims)
        sample = RowSample.empty(self.dims, 0, limit).update(indices, rows)
        groups = accumulate_groups(state, rows, indices) if n >= MIN_IMAGES_PER_DIM * self.dims else None
        group_moments = groups.to_float32() if groups is not None and groups.fits_float32() else None
        return {"rows": sample.rows, "indices": sample.indices, "group_moments": group_moments}


def get_rank() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks."""
    is_distributed = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if is_distributed else (0, 1)


def _make_writable(metric: Metric, name: str) -> torch.Tensor:
    """Return a state that can be changed in place: one that was created in inference mode is copied outside of it."""
    state: torch.Tensor = getattr(metric, name)
    if state.is_inference() and not torch.is_inference_mode_enabled():
        state = state.clone()
        setattr(metric, name, state)
    return state


def _compute_resolution(moments: RunningMoments) -> float:
    """Return the relative precision of a covariance computed from sums.

    If all images look alike (a collapsed generator), the covariance consists of rounding errors and the result is 1.
    """
    rounding = FLOAT64_EPS * moments.n**0.5 * float((moments.mean**2).max())
    largest = float(moments.covariance.diagonal().max())
    return max(FLOAT64_EPS, rounding / largest if largest > rounding else 1.0)

"""What may differ between two computations of the same score: how images become inputs, which of them count, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np

from frechet.preprocessing.crop import CROPS, Crop
from frechet.statistics.row_sample import priorities

AS_READ, RANDOM = "as read", "random"
COUNTS = (5_000, 10_000, 30_000, 50_000)  # numbers of generated images that papers use


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How the images of one side become inputs of the network.

    Attributes:
        preprocessing: name in the table of preprocessings.
        crop: applied before the resize, or None.
        rounding: how floating-point images become 8 bits, a key of `ROUNDING_RULES`; None for images of 8 bits.
    """

    preprocessing: str
    crop: Crop | None = None
    rounding: str | None = None


@dataclass(frozen=True, kw_only=True)
class Combination:
    """One way to compute the score. The fields are the axes along which it may differ from another one.

    Attributes:
        preprocessing: of the images on both sides.
        generated_crop, reference_crop: crop of each side, or None.
        rounding: of generated images that are floating-point numbers; None for images of 8 bits.
        order: "as read", or "random" for a seeded random order.
        num_images: the number of generated images, the first ones in that order; None for all.
    """

    preprocessing: str
    generated_crop: Crop | None = None
    reference_crop: Crop | None = None
    rounding: str | None = None
    order: str = AS_READ
    num_images: int | None = None

    @property
    def generated(self) -> Variant:
        """How generated images become inputs."""
        return Variant(preprocessing=self.preprocessing, crop=self.generated_crop, rounding=self.rounding)

    @property
    def reference(self) -> Variant:
        """How reference images become inputs."""
        return Variant(preprocessing=self.preprocessing, crop=self.reference_crop)

    def select(self, n: int, seed: int) -> np.ndarray:
        """Return the indices of the generated images that count, out of n, in their order.

        A random order starts with the images that `--num-images` with this seed selects.
        """
        indices = np.arange(n)
        if self.order == RANDOM:
            indices = np.argsort(priorities(indices, seed), kind="stable")
        return indices[: self.num_images]

    def describe(self) -> dict[str, str]:
        """Return the value of each axis in words."""
        return {
            "preprocessing": self.preprocessing,
            "generated_crop": str(self.generated_crop or "none"),
            "reference_crop": str(self.reference_crop or "none"),
            "rounding": self.rounding or "none",
            "order": self.order,
            "num_images": f"{self.num_images}" if self.num_images else "all",
        }

    def list_changes(self, baseline: Combination) -> list[str]:
        """Return the axes along which this combination differs from another one."""
        return [each.name for each in fields(self) if getattr(self, each.name) != getattr(baseline, each.name)]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The values of each axis that apply to the inputs; `Combination` documents the axes.

    Attributes:
        preprocessings, generated_crops, reference_crops, roundings: values of the axes of that name.
        subsets: (order, num_images) pairs.
    """

    preprocessings: Sequence[str]
    generated_crops: Sequence[Crop | None]
    reference_crops: Sequence[Crop | None]
    roundings: Sequence[str | None]
    subsets: Sequence[tuple[str, int | None]]

    def __iter__(self) -> Iterator[Combination]:
        axes = (self.preprocessings, self.generated_crops, self.reference_crops, self.roundings, self.subsets)
        for preprocessing, generated_crop, reference_crop, rounding, (order, num_images) in product(*axes):
            yield Combination(
                preprocessing=preprocessing,
                generated_crop=generated_crop,
                reference_crop=reference_crop,
                rounding=rounding,
                order=order,
                num_images=num_images,
            )


def list_crops(size: int | None) -> list[Crop | None]:
    """Return no crop and, if a size is known, every crop to that size."""
    return [None, *(Crop(name, size) for name in CROPS if size is not None)]


def list_subsets(n: int, counts: Sequence[int], *, depends_on_order: bool) -> list[tuple[str, int | None]]:
    """Return the (order, num_images) pairs that differ: a random order of all images matters to few metrics.

    Args:
        n: number of generated images.
        counts: smaller numbers to try.
        depends_on_order: whether the metric depends on the order of the images.
    """
    orders = [AS_READ, RANDOM]
    whole: list[tuple[str, int | None]] = [(order, None) for order in (orders if depends_on_order else orders[:1])]
    return whole + [(order, count) for count in counts if count < n for order in orders]

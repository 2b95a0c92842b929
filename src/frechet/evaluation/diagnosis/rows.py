"""The features of many variants of the same images, stored once for variants whose inputs are equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from frechet.evaluation.diagnosis.prepare import InputKey
from frechet.statistics.accumulator import allocate_rows


class VariantRows:
    """Features by variant. Variants share their rows until an image comes whose inputs differ.

    Args:
        n_variants: number of variants.
        max_images: largest number of images.
        dims: number of features d.
    """

    def __init__(self, n_variants: int, max_images: int, dims: int) -> None:
        self.n = 0
        self.n_inputs = 0
        self._shape = max_images, dims, n_variants
        self._members = [list(range(n_variants))]  # the variants of each group
        self._rows = [self._allocate()]

    def append(self, keys: Sequence[InputKey], features: Mapping[InputKey, np.ndarray]) -> None:
        """Add the features of the next image.

        Args:
            keys: the input of each variant.
            features: (d,) of each distinct input.
        """
        for group in range(len(self._members)):
            self._split(group, keys)
        for members, rows in zip(self._members, self._rows, strict=True):
            rows[self.n] = features[keys[members[0]]]
        self.n += 1
        self.n_inputs += len(features)

    def _split(self, group: int, keys: Sequence[InputKey]) -> None:
        """Give variants whose input differs from that of the first in their group a group of their own."""
        by_key: dict[InputKey, list[int]] = {}
        for variant in self._members[group]:
            by_key.setdefault(keys[variant], []).append(variant)
        self._members[group], *others = by_key.values()
        for members in others:
            rows = self._allocate()
            rows[: self.n] = self._rows[group][: self.n]
            self._members.append(members)
            self._rows.append(rows)

    def _allocate(self) -> np.ndarray:
        max_images, dims, n_variants = self._shape
        return allocate_rows(max_images, dims, num_arrays=n_variants)

    def get_groups(self) -> list[int]:
        """Return the group of each variant; variants of one group had equal inputs for all images."""
        group_of = {variant: group for group, members in enumerate(self._members) for variant in members}
        return [group_of[variant] for variant in range(self._shape[2])]

    def get_rows(self, group: int) -> np.ndarray:
        """Return the features (n, d), float32, of a group of variants."""
        return self._rows[group][: self.n]

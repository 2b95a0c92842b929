"""Parts merged, in their order: by whoever computes them into large ones, and by the first process into a side's statistics."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from frechet.execution.chunks import AnyPart, Cut, LargePart
from frechet.features.extract import Part
from frechet.features.extractor import LoadedExtractor
from frechet.images.loader import PART
from frechet.statistics.accumulator import Gathering


@dataclass
class Merged:
    """What is kept of the parts that went by.

    Attributes:
        layers: what is kept of the features, by layer.
        places, signs: (k,) of each part.
        remarks, bad: of all parts.
    """

    layers: Mapping[str, Gathering]
    places: list[np.ndarray] = field(default_factory=list)
    signs: list[np.ndarray] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, cut: Cut, seed: int, extractor: LoadedExtractor, keep: Mapping[str, bool]) -> Merged:
        """Of no part; `keep` says of which layers every image's features are kept."""
        return cls(
            {
                name: Gathering(columns, len(cut.chosen), seed, keep_all=keep.get(name, False))
                for name, columns in extractor.columns.items()
            }
        )

    def add(self, part: AnyPart) -> None:
        """The next part, of either kind."""
        for name, layer in self.layers.items():
            if isinstance(part, Part):
                layer.update(part.places, part.features)
            else:
                layer.merge(part.layers[name])
        self.places.append(part.places)
        self.signs.append(part.signs)
        self.remarks += part.remarks
        self.bad += part.bad

    def condensed(self) -> LargePart:
        """What stands for them."""
        return LargePart(
            places=np.concatenate(self.places),
            layers={name: layer.summary for name, layer in self.layers.items()},
            signs=np.concatenate(self.signs),
            remarks=self.remarks,
            bad=self.bad,
        )


def condensed(
    parts: Generator[Part, None, None], cut: Cut, numbers: Sequence[int], seed: int, extractor: LoadedExtractor
) -> Generator[LargePart, None, None]:
    """The large parts of these numbers, of the parts of 256 images that they consist of.

    They are merged in a thread of their own while the network goes on; at most the parts of one large part wait for it.
    """
    with closing(parts), ThreadPoolExecutor(1, thread_name_prefix="merge") as pool:
        for number in numbers:
            merged = Merged.empty(cut, seed, extractor, {})
            few = islice(parts, -(-len(cut.images_in(number)) // PART))
            for added in [pool.submit(merged.add, part) for part in few]:
                added.result()
            yield merged.condensed()

"""What a source of images is: it knows its images before any is decoded, and hands out each as a `Picture`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

ImageLike = Image.Image | np.ndarray
ImagesLike = Any  # temporary


@dataclass(frozen=True)
class ImageRef:
    """One image, not yet decoded.

    Attributes:
        index: its place among the images that are scored, from 0.
        name: what the user knows it by.
        load: gets its pixels; safe to call from another thread.
    """

    index: int
    label: str
    load: Callable[[], ImageLike]


class ImageSource(Protocol):
    """A sized, repeatable collection of images.

    Attributes:
        name: what the user knows it by.
        address: what another process may open it by, or None.
    """

    label: str
    location: str | None

    def __len__(self) -> int: ...

    def get_label(self, source_index: int) -> str:
        """What the user knows an image by."""

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        """The pictures at these places (ascending), numbered anew from 0."""

    def get_class_names(self, source_indices: Sequence[int]) -> list[str]: ...

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        """For each of these images, what tells it from another that may take its place: name, size, time.

        Raises:
            RequestError: nothing does.
        """


def get_unsupported(source: ImageSource) -> Counter[str]:
    """How many images a source passes over, by their kind; only sources of files do."""
    return getattr(source, "unread", None) or Counter()


def skipped_formats_note(source: ImageSource) -> Iterator[str]:
    """A word on the images that a source passes over."""
    kinds = get_unsupported(source)
    if kinds:
        count = kinds.total()
        listed = ", ".join(f"{n:,} x {kind}" for kind, n in kinds.most_common())
        yield (
            f"{count:,} image file{'s' if count > 1 else ''} of kinds that are not read {'were' if count > 1 else 'was'} passed over "
            f"({listed}); save them as PNG if they belong to the side"
        )

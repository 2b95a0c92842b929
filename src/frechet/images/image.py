"""Images that are not decoded yet, and the base class of everything that can provide them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeAlias

import numpy as np
from PIL import Image

from frechet.errors import RequestError


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file in memory that is not decoded yet.

    Attributes:
        data: the file.
    """

    data: bytes


ImageLike: TypeAlias = Image.Image | np.ndarray | EncodedImage


def _locate_nowhere() -> tuple[None, None]:
    return None, None


@dataclass(frozen=True)
class ImageRef:
    """One image that is not decoded yet.

    Attributes:
        index: position among the images that are scored, from 0.
        label: name to display. It is not an address: use `path`, `url` and `index` to locate the image.
        load: return the image; safe to call from another thread.
        locate: return `path` and `url`, which are only computed if they are used.
    """

    index: int
    label: str
    load: Callable[[], ImageLike]
    locate: Callable[[], tuple[Path | None, str | None]] = field(default=_locate_nowhere, compare=False, repr=False)

    @property
    def path(self) -> Path | None:
        """Local file that the image is read from (the image itself, or the archive, array file or table that contains it), or None."""
        return self.locate()[0]

    @property
    def url(self) -> str | None:
        """URL of the file that the image is read from, or None. It may contain credentials; do not display it."""
        return self.locate()[1]


class ImageSource(ABC):
    """A collection of images whose length is known and which can be read more than once.

    A subclass implements `__len__` and either `load` (images can be read one by one) or `iter_loaders` (images are read
    in order, or several at once). It overrides `fingerprints` if its images can be recognised in another run, and
    `get_member_name` or `get_class_names` if they have classes.

    Args:
        label: name to display, without credentials.
        path: local file or folder that the images are read from, if there is one.
        url: URL that the images are read from, if there is one. It may contain credentials.

    Attributes:
        label, path, url: as above.
        location: path, URL or pattern from which another process can open this source, or None.
        unsupported: number of image files that were skipped because their format is not supported, by file extension.
        containers: names of archives, array files and tables next to the images, which were not opened.
    """

    def __init__(self, label: str, *, path: Path | None = None, url: str | None = None) -> None:
        self.label = label
        self.path = path
        self.url = url
        self.location: str | None = None
        self.unsupported: Counter[str] = Counter()
        self.containers: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    def load(self, source_index: int) -> ImageLike:
        """Return one image; safe to call from several threads."""
        raise NotImplementedError(f"{type(self).__name__} must implement load or iter_loaders")

    def iter_loaders(self, source_indices: Sequence[int]) -> Iterator[Callable[[], ImageLike]]:
        """Yield, for each of these images (in ascending order), a function that returns it."""
        return (partial(self.load, source_index) for source_index in source_indices)

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        """Yield these images (in ascending order), numbered from 0."""
        loaders = self.iter_loaders(source_indices)
        for index, (source_index, load) in enumerate(zip(source_indices, loaders, strict=True)):
            yield ImageRef(index, self.get_label(source_index), load, partial(self.locate, source_index))

    def get_label(self, source_index: int) -> str:
        """Return the name under which an image is displayed."""
        return f"{self.label}[{source_index}]"

    def locate(self, source_index: int) -> tuple[Path | None, str | None]:  # noqa: ARG002, subclasses need it
        """Return the path and the URL (see `ImageRef`) of the file that an image is read from."""
        return self.path, self.url

    def get_member_name(self, source_index: int) -> str | None:  # noqa: ARG002, subclasses need it
        """Return an image's path below the folder or in the archive, with forward slashes, or None if it has no name."""
        return None

    def get_class_names(self, source_indices: Sequence[int]) -> list[str]:
        """Return the class of each of these images: the first folder below the source that contains it.

        Raises:
            RequestError: an image has no class.
        """
        class_names = [_first_folder(self.get_member_name(source_index)) for source_index in source_indices]
        for source_index, class_name in zip(source_indices, class_names, strict=True):
            if class_name is None:
                raise RequestError(
                    f"{self.get_label(source_index)} has no class: it is not in a class folder of {self.label}. Pass a "
                    "folder or archive with one folder per class, or an .npz file with integer labels in arr_1."
                )
        return [class_name for class_name in class_names if class_name is not None]

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:  # noqa: ARG002, subclasses need it
        """Yield, for each of these images, a text that changes if another image takes its place (name, size, time).

        Raises:
            RequestError: the images cannot be recognised in another run.
        """
        raise RequestError(
            f"a work directory (work_dir=) needs images that can be recognised when the run continues; {self.label} have no "
            "name, size and time. Pass a folder, an archive or a file."
        )


class ImageDataset(Protocol):
    """Images by index, alone or with labels: a list, a torch.utils.data.Dataset, a datasets.Dataset ..."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


ImagesLike: TypeAlias = (
    str | os.PathLike[str] | np.ndarray | ImageSource | ImageDataset | Iterable[Any] | Callable[[int], Any]
)
"""Anything that images can be read from.

* A path or URL of a folder, archive, array file or table, or a pattern that names several (`shards/{000..127}.tar`).
* An array (n, h, w, c), uint8.
* An iterable, dataset or torch.utils.data.DataLoader of images: PIL images, uint8 arrays (h, w, c) or uint8 PyTorch
  tensors (c, h, w), alone, first in a tuple, or in a dict under `image`.
* A function that takes n and returns n images, together with a number of images (`num_images`).
"""


def skipped_formats_note(source: ImageSource) -> Iterator[str]:
    """Yield notes on what a source does not read: image files of other formats, and archives next to the images."""
    if source.unsupported:
        count = source.unsupported.total()
        extensions = ", ".join(f"{n:,} x {extension}" for extension, n in source.unsupported.most_common())
        yield (
            f"{count:,} image file{'s' if count > 1 else ''} in unsupported formats {'were' if count > 1 else 'was'} skipped "
            f"({extensions}); convert them to PNG to include them"
        )
    if source.containers:
        count, first = len(source.containers), source.containers[0]
        yield (
            f"{count:,} archive{'s' if count > 1 else ''}, array file{'s' if count > 1 else ''} or table{'s' if count > 1 else ''} "
            f"next to the images {'were' if count > 1 else 'was'} not read (the first: {first}). To score the images in it, pass the "
            "file itself."
        )


def _first_folder(name: str | None) -> str | None:
    parts = PurePosixPath((name or "").replace("\\", "/").lstrip("/")).parts
    return parts[0] if len(parts) > 1 else None

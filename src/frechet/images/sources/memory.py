"""Images that are Python objects: lists, arrays, tensors, datasets and loaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from io import BytesIO
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from frechet.errors import ArchiveError, ImageDecodeError, RequestError, SourceError
from frechet.images.image import ImageLike, ImageRef, ImageSource
from frechet.images.sources.files import open_image

_NO_FINGERPRINTS = (
    "a work-dir needs images that can be told from others when the run continues: give a folder, an archive or a file; "
    "images in memory have no name, size and time"
)


class MemorySource:
    """Images that are Python objects already."""

    location: str | None = None
    label = "images in memory"

    def __init__(self, objects: Sequence[ImageLike]) -> None:
        self.objects = objects
        self.lock = Lock()  # what a user hands in need not bear several threads, and a lazy PIL image does not

    def __len__(self) -> int:
        return len(self.objects)

    def get_label(self, source_index: int) -> str:
        return f"image {source_index}"

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        for index, source_index in enumerate(source_indices):
            yield ImageRef(index, self.get_label(source_index), partial(self._load, source_index))

    def _load(self, source_index: int) -> ImageLike:
        with self.lock:
            pixels = item_to_image(self.objects[source_index])
            if isinstance(pixels, Image.Image):
                pixels.load()
            return pixels

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        fingerprint = getattr(self.objects, "_fingerprint", None)  # of a datasets.Dataset: changes with every transform
        if not isinstance(fingerprint, str):
            raise RequestError(_NO_FINGERPRINTS)
        yield from (f"{fingerprint} {source_index}" for source_index in source_indices)


class DataLoaderSource:
    """The images of a torch.utils.data.DataLoader, batch by batch, in the order in which it gives them.

    Attributes:
        repeatable: whether it gives the same images at the same places another time; one that shuffles does not.
    """

    location: str | None = None
    label = "images of a DataLoader"

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.is_repeatable = type(loader.sampler).__name__ == "SequentialSampler"
        try:
            self.count = len(loader.sampler)
        except TypeError:
            raise SourceError(
                "the DataLoader does not know how many images it will give (an IterableDataset?); give a dataset with a "
                "length, or the images one by one as an iterable"
            ) from None
        if loader.drop_last and loader.batch_size:
            self.count -= self.count % loader.batch_size

    def __len__(self) -> int:
        return self.count

    def get_label(self, source_index: int) -> str:
        return f"image {source_index}"

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        given = enumerate(self._iter_items())
        for index, source_index in enumerate(source_indices):
            image = next((image for at, image in given if at == source_index), None)
            if image is None:
                raise ArchiveError(
                    f"the DataLoader ended before image {source_index}, and its length says {self.count}"
                )
            yield ImageRef(index, self.get_label(source_index), partial(item_to_image, image))

    def _iter_items(self) -> Iterator[Any]:
        size = self.loader.batch_size
        for start, batch in zip(range(0, self.count, size or 1), self.loader, strict=False):
            if size is None:
                yield batch
                continue
            expected = min(size, self.count - start)
            images = _split_batch(batch, expected)
            given = len(images) if hasattr(images, "__len__") else 1
            if given != expected:
                raise ArchiveError(f"the DataLoader gave {given} images where a batch of {expected} was expected")
            yield from images

    def fingerprints(self, _source_indices: Sequence[int]) -> Iterator[str]:
        raise RequestError(_NO_FINGERPRINTS)


def open_objects(images: Any) -> ImageSource:
    """A source of Python objects.

    Args:
        images: an iterable of PIL images, uint8 arrays (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) or uint8 torch tensors
            (c, h, w); of tuples that begin with one of these, or of dicts that hold one under `image` or alone (a
            torch.utils.data.Dataset, a datasets.Dataset); or a DataLoader of such. An array (n, h, w, c) is such an
            iterable. An iterable without length and index is gathered in memory first.

    Raises:
        SourceError: something else, or nothing in it.
    """
    if all(hasattr(images, name) for name in ("dataset", "sampler", "batch_size", "drop_last")):
        return DataLoaderSource(images)
    return _open_collection(images)


def item_to_image(item: Any) -> ImageLike:
    """The pixels of one item of a dataset.

    Raises:
        BadImage: there are none, or it is not clear which are meant.
    """
    image = _select_image(item)
    if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):  # a datasets.Image that is not decoded
        return open_image(BytesIO(image["bytes"]))
    if hasattr(image, "detach"):  # a torch tensor: channels first
        array: np.ndarray = image.detach().cpu().numpy()
        if array.dtype != np.uint8:
            raise ImageDecodeError(
                f"is a tensor of {image.dtype}; expected uint8 in 0..255: leave ToTensor and Normalize out of the transform, "
                "or use PILToTensor; what a model made in [0, 1]: (x * 255).round().byte()"
            )
        if array.ndim == 3 and array.shape[0] not in (1, 3, 4):
            raise ImageDecodeError(
                f"is a tensor of shape {array.shape}; expected (3, h, w): a tensor's channels come first"
            )
        return array.transpose(1, 2, 0) if array.ndim == 3 else array
    return image


def _split_batch(batch: Any, expected: int) -> Any:
    """The images of a batch: a list of so many items, as a `collate_fn` may leave them, or one array (with labels beside it)."""
    items = isinstance(batch, (tuple, list)) and len(batch) == expected and all(map(_is_single_item, batch))
    return batch if items else _select_image(batch)


def _is_single_item(value: Any) -> bool:
    """Whether it may be what a dataset gives for one image, rather than a batch of images or of labels."""
    shape: tuple[int, ...] = getattr(value, "shape", ())
    one = len(shape) == 2 or (len(shape) == 3 and bool({shape[0], shape[2]} & {1, 3, 4}))
    return one or isinstance(value, (Image.Image, tuple, list, dict))


def _select_image(item: Any) -> Any:
    """The image, or a batch of them, among what a dataset gives with it."""
    if isinstance(item, (tuple, list)) and item:
        return item[0]
    if not isinstance(item, dict) or "bytes" in item:
        return item
    found = [name for name, value in item.items() if _looks_like_images(value)]
    preferred = [name for name in ("image", "img", "images", "pixel_values") if name in found]
    if len(found) != 1 and not preferred:
        raise ImageDecodeError(
            f"is a dict of {', '.join(map(repr, item)) or 'nothing'}; expected an image under 'image'"
        )
    return item[(preferred or found)[0]]


def _looks_like_images(value: Any) -> bool:
    is_array = getattr(value, "ndim", 0) >= 2
    return is_array or isinstance(value, Image.Image) or (isinstance(value, dict) and "bytes" in value)


def _open_collection(images: Any) -> MemorySource:
    indexable = hasattr(images, "__len__") and hasattr(images, "__getitem__")
    if isinstance(images, (bytes, dict, Image.Image)) or not (indexable or isinstance(images, Iterable)):
        raise SourceError(
            f"got {type(images).__name__}; expected a path, or an iterable of PIL images or uint8 arrays (h, w, 3)"
        )
    if isinstance(images, np.ndarray) and images.dtype != object and images.ndim != 4:
        raise SourceError(
            f"got an array of shape {images.shape}; expected (n, h, w, c). One image has no distribution; "
            "grey images need a last axis of 1: images[..., None]. Are they features (n, d)? features=True"
        )
    objects: Any = images if indexable else [_copy_array(image) for image in images]
    if not len(objects):
        raise SourceError("got an empty collection of images")
    return MemorySource(objects)


def _copy_array(image: Any) -> Any:
    """The image, or a copy where its producer may use the memory again."""
    return image.copy() if isinstance(image, np.ndarray) else image

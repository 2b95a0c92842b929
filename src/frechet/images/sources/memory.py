"""Images that are Python objects: lists, arrays, tensors, datasets and loaders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from frechet._internal.masked_arrays import is_masked
from frechet.errors import ArchiveError, ImageDecodeError, SourceError
from frechet.images.image import ImageDataset, ImageLike, ImageSource
from frechet.images.pixels import find_pixel_error
from frechet.images.sources.files import to_encoded_image

_IMAGE_KEYS = ("image", "img", "images", "pixel_values")  # of items that are dicts, in the order of preference


class MemorySource(ImageSource):
    """Images of a collection with a length and an index, such as a list, an array or a dataset."""

    def __init__(self, objects: ImageDataset) -> None:
        super().__init__("images in memory")
        self.objects = objects
        self.holds_items = isinstance(objects, (list, tuple, np.ndarray))  # others may reuse the memory of an item
        self.lock = Lock()  # neither a user's dataset nor a lazy PIL image need be safe for several threads

    def __len__(self) -> int:
        return len(self.objects)

    def load(self, source_index: int) -> ImageLike:
        with self.lock:
            item = self.objects[source_index]
            pixels = item_to_image(item if self.holds_items else copy_item(item))
            if isinstance(pixels, Image.Image):
                pixels.load()
            return pixels

    def get_label(self, source_index: int) -> str:
        return f"image {source_index}"

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        fingerprint = getattr(self.objects, "_fingerprint", None)  # of a datasets.Dataset: changes with every transform
        if not isinstance(fingerprint, str):
            return super().fingerprints(source_indices)
        return (f"{fingerprint} {source_index}" for source_index in source_indices)


class DataLoaderSource(ImageSource):
    """Images of a torch.utils.data.DataLoader, batch by batch, in its order.

    Attributes:
        is_repeatable: whether reading it again gives the same images in the same order; not so if it shuffles.
    """

    def __init__(self, loader: Any) -> None:
        super().__init__("images of a DataLoader")
        self.loader = loader
        self.is_repeatable = type(loader.sampler).__name__ == "SequentialSampler"
        try:
            self.count = len(loader.sampler)
        except TypeError:
            raise SourceError(
                "the DataLoader does not know how many images it will return (an IterableDataset?); pass a dataset with a "
                "length, or an iterable of single images"
            ) from None
        if loader.drop_last and loader.batch_size:
            self.count -= self.count % loader.batch_size

    def __len__(self) -> int:
        return self.count

    def get_label(self, source_index: int) -> str:
        return f"image {source_index}"

    def iter_loaders(self, source_indices: Sequence[int]) -> Iterator[Callable[[], ImageLike]]:
        items = enumerate(self._iter_items())
        for source_index in source_indices:
            image = next((image for index, image in items if index == source_index), None)
            if image is None:
                raise ArchiveError(
                    f"the DataLoader ended before image {source_index}, although its length is {self.count}"
                )
            yield partial(item_to_image, copy_item(image))  # it is decoded later, and the loader may reuse the memory

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
                raise ArchiveError(f"the DataLoader returned {given} images where a batch of {expected} was expected")
            yield from images


def open_objects(images: Any) -> ImageSource:
    """Create a source of Python objects.

    Args:
        images: an iterable of images: PIL images, uint8 arrays (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), or uint8
            PyTorch tensors (c, h, w). Each may be the first element of a tuple, or in a dict under `image` or as its only
            image (a torch.utils.data.Dataset, a datasets.Dataset). Also a DataLoader of such items, or an array
            (n, h, w, c). An iterable without length and index is read into memory first; it may reuse its memory.

    Raises:
        SourceError: it is something else, or is empty.
    """
    if all(hasattr(images, name) for name in ("dataset", "sampler", "batch_size", "drop_last")):
        return DataLoaderSource(images)
    return _open_collection(images)


def item_to_image(item: Any) -> ImageLike:
    """Return the image in one item of a dataset.

    Raises:
        ImageDecodeError: there is none, or it is not clear which element is the image.
        SourceError: there is more than one.
    """
    if (count := _count_images(item)) > 1:
        raise SourceError(
            f"an item of the images is a {type(item).__name__} of {count} images; expected one image per item. For batches, "
            "pass [image for batch in batches for image in batch]. For pairs, pass the images to score: [pair[0] for pair in pairs]"
        )
    image = _select_image(item)
    if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):  # a datasets.Image that is not decoded
        return to_encoded_image(image["bytes"])
    if hasattr(image, "detach"):  # a PyTorch tensor
        if error := find_pixel_error(image.dtype, image.shape, "chw", image):
            raise ImageDecodeError(error)
        array: np.ndarray = image.detach().cpu().numpy()
        return array.transpose(1, 2, 0) if array.ndim == 3 else array
    return image


def copy_item(item: Any) -> Any:
    """Return an item whose images do not change if the program that made them uses their memory again."""
    if isinstance(item, (tuple, list)):
        values = map(copy_item, item)
        return list(values) if isinstance(item, list) else tuple(values)
    if isinstance(item, dict):
        return {key: copy_item(value) for key, value in item.items()}
    if isinstance(item, Image.Image):
        return _copy_pil_image(item)
    if isinstance(item, np.ndarray):
        return item.copy()
    return item.detach().clone() if hasattr(item, "detach") else item


def _copy_pil_image(image: Image.Image) -> Image.Image:
    try:
        copied: Any = image.copy()
    except Exception:  # it is damaged, which is reported when it is decoded
        return image
    copied.format, copied.is_animated = image.format, getattr(image, "is_animated", False)  # copy() forgets both
    return copied


def _split_batch(batch: Any, expected: int) -> Any:
    """Return the images of a batch: a list of items, as a `collate_fn` may leave them, or one array (with labels)."""
    if not isinstance(batch, (tuple, list)):
        return _select_image(batch)
    counts = [_count_images(value) for value in batch]
    if len(batch) == expected and max(counts, default=0) <= 1 and all(map(_is_single_item, batch)):
        return batch
    if sum(map(bool, counts)) > 1:
        raise SourceError(
            f"a batch of the DataLoader has {sum(map(bool, counts))} elements with images; expected one, with labels after "
            "it. Pass a DataLoader whose dataset or collate_fn returns only the images to score."
        )
    return _select_image(batch)


def _count_images(item: Any) -> int:
    """Return the number of images in an item, however deep in tuples and lists; an array of several counts as one."""
    if isinstance(item, (tuple, list)):
        return sum(map(_count_images, item))
    if isinstance(item, dict):
        counts = {name: _count_images(value) for name, value in item.items()}
        named = [counts[name] for name in _IMAGE_KEYS if counts.get(name)]
        return 1 if "bytes" in item else max(named[:1] or counts.values(), default=0)
    is_uint8 = str(getattr(item, "dtype", "")) in ("uint8", "torch.uint8")
    return int(isinstance(item, Image.Image) or (is_uint8 and item.ndim > 1))


def _is_single_item(value: Any) -> bool:
    """Return whether a value may be what a dataset returns for one image, rather than a batch of images or of labels."""
    shape: tuple[int, ...] = getattr(value, "shape", ())
    is_image = len(shape) == 2 or (len(shape) == 3 and bool({shape[0], shape[2]} & {1, 3, 4}))
    return is_image or isinstance(value, (Image.Image, tuple, list, dict))


def _select_image(item: Any) -> Any:
    """Return the image, or a batch of them, of an item that may also contain labels."""
    if isinstance(item, (tuple, list)) and item:
        return item[0]
    if not isinstance(item, dict) or "bytes" in item:
        return item
    found = [name for name, value in item.items() if _looks_like_images(value)]
    preferred = [name for name in _IMAGE_KEYS if name in found]
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
            f"{_suggest_images(images)}"
        )
    objects: Any = images if indexable else [copy_item(image) for image in images]
    if not len(objects):
        raise SourceError("got an empty collection of images")
    if is_masked(images):
        raise SourceError(
            "the array of images has masked values; expected none. Pass x.filled(value), or leave out images."
        )
    _reject_paths(objects)
    is_pixels = isinstance(images, np.ndarray) and images.dtype != object
    if is_pixels and (error := find_pixel_error(images.dtype, images.shape, "nhwc", images[:16])):
        raise SourceError(f"the array of images {error}")
    return MemorySource(objects)


def _suggest_images(images: Any) -> str:
    """Return what to pass instead of an object that is not a collection of images."""
    if isinstance(images, Image.Image):
        return ". A single image has no distribution; pass several."
    if isinstance(images, bytes):
        return ". Decode each file: PIL.Image.open(io.BytesIO(data))"
    if isinstance(images, dict) and images:
        return f". Pass one of its values, e.g. images[{next(iter(images))!r}]"
    return ""


def _reject_paths(objects: Any) -> None:
    """Reject a list of paths, which is not read as images.

    Raises:
        SourceError: the first item is a path.
    """
    first = objects[0] if isinstance(objects, (list, tuple)) else None
    if isinstance(first, (str, os.PathLike)):
        raise SourceError(
            f"got a {type(objects).__name__} of paths, the first: {os.fspath(first)}; expected images, or the path of a folder. Pass "
            "the folder that contains the files, or open them: [PIL.Image.open(path).convert('RGB') for path in paths]"
        )

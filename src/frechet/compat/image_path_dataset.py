"""The `ImagePathDataset` of pytorch-fid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from frechet.images.decode import decode
from frechet.images.sources.folder import FolderSource


class ImagePathDataset(Dataset[Any]):
    """Image files as a data set of PIL images (RGB).

    Args:
        files: paths of image files.
        transforms: applied to each image, such as torchvision's `ToTensor()`; None for the image itself.
    """

    def __init__(self, files: Sequence[str | Path], transforms: Callable[[Image.Image], Any] | None = None) -> None:
        self.files = files
        self.transforms = transforms

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)

    def __getitem__(self, i: int) -> Any:
        """Decode file i.

        Raises:
            SourceError: the file is missing.
            ImageDecodeError: the file cannot be decoded.
        """
        source = FolderSource.from_files([Path(self.files[i])])
        image = Image.fromarray(decode(next(iter(source.iter_images([0])))).rgb)
        return image if self.transforms is None else self.transforms(image)

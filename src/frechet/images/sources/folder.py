"""Image files in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from frechet.errors import SourceError
from frechet.images.image import ImageSource
from frechet.images.sources.files import (
    FileLoader,
    count_unsupported,
    describe_contents,
    get_file_version,
    is_hidden,
    is_image,
    list_containers,
)


class FolderSource(ImageSource):
    """All image files below a folder, sorted by path; hidden files and folders are skipped, links are followed once.

    Attributes:
        names: paths relative to the folder, with forward slashes; without a folder, the names of the files.
        files: paths, as strings, since there may be millions.
    """

    names: list[str]
    files: list[str]

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), path=folder)
        self.names, others = _split_images(sorted(_walk_files(folder)))
        if not self.names:
            raise SourceError(f"{folder} contains no images{describe_contents(others)}")
        start = str(folder / "_").removesuffix("_")
        self.files = [start + name.replace("/", os.sep) for name in self.names]
        self.unsupported, self.containers = count_unsupported(others), list_containers(others)

    @classmethod
    def from_files(cls, files: Sequence[Path], label: str = "files") -> FolderSource:
        """Create a source of exactly these files, in this order."""
        source = cls.__new__(cls)
        ImageSource.__init__(source, label)
        source.names, source.files = [file.name for file in files], list(map(str, files))
        return source

    def __len__(self) -> int:
        return len(self.files)

    def iter_loaders(self, source_indices: Sequence[int]) -> Iterator[FileLoader]:
        return (FileLoader(self.files[source_index]) for source_index in source_indices)

    def get_label(self, source_index: int) -> str:
        return self.files[source_index]

    def locate(self, source_index: int) -> tuple[Path, None]:
        return Path(self.files[source_index]), None

    def get_member_name(self, source_index: int) -> str:
        return self.names[source_index]

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        for source_index in source_indices:
            yield f"{self.get_member_name(source_index)} {get_file_version(Path(self.files[source_index]))}"


def _split_images(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names of image files, and those of all others."""
    images: list[str] = []
    others: list[str] = []
    for name in names:
        (images if is_image(name) else others).append(name)
    return images, others


def _walk_files(folder: Path) -> Iterator[str]:
    """Yield the relative paths (with forward slashes) of all files below a folder that are not hidden."""
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_raise_unreadable):
        real = os.path.realpath(parent)
        if real in visited:  # a link back into the tree
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        relative = Path(parent).relative_to(folder).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        yield from (f"{prefix}{name}" for name in files if not is_hidden(name))


def _raise_unreadable(error: OSError) -> None:
    raise SourceError(f"{error.filename} cannot be read ({error.strerror}); its images would be missing from the score")

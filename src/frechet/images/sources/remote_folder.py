"""Image files below a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath

from frechet._internal.remote_files import (
    call_with_retries,
    entry_version,
    open_filesystem,
    open_with_retries,
    prefetch,
    redact_url,
)
from frechet.errors import ImageDecodeError, SourceError
from frechet.images.image import EncodedImage, ImageSource
from frechet.images.pixels import MAX_IMAGE_BYTES
from frechet.images.sources.files import (
    count_unsupported,
    describe_contents,
    is_hidden,
    is_image,
    list_containers,
    to_encoded_image,
)


class RemoteFolderSource(ImageSource):
    """All image files below a URL, sorted by path; several are fetched at once, ahead of time."""

    def __init__(self, url: str) -> None:
        super().__init__(redact_url(url), url=url)
        self.filesystem, root = open_filesystem(url)
        found = open_with_retries(self.label, lambda: self.filesystem.find(root, detail=True))
        self.root = root.rstrip("/")
        names = {path: self._relative(path) for path in sorted(found) if found[path].get("type") != "directory"}
        self.files = [path for path, name in names.items() if is_image(name) and not is_hidden(name)]
        if not self.files:
            raise SourceError(f"{self.label} contains no images{describe_contents(list(names.values()))}")
        shown = [name for name in names.values() if not is_hidden(name)]
        self.unsupported, self.containers = count_unsupported(shown), list_containers(shown)
        self.versions = [entry_version(found[path]) for path in self.files]
        self.sizes = [found[path].get("size") for path in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def get_label(self, source_index: int) -> str:
        return f"{self.label.rstrip('/')}/{self.get_member_name(source_index)}"

    def get_member_name(self, source_index: int) -> str:
        return self._relative(self.files[source_index])

    def iter_loaders(self, source_indices: Sequence[int]) -> Iterator[Callable[[], EncodedImage]]:
        requests = ((partial(self._read, source_index), [slice(None)]) for source_index in source_indices)
        return (partial(_load, read) for read in prefetch(requests))

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        for source_index in source_indices:
            yield f"{self.get_member_name(source_index)} {self.versions[source_index]}"

    def _read(self, source_index: int) -> bytes:
        size = self.sizes[source_index]
        if size is not None and size > MAX_IMAGE_BYTES:
            raise ImageDecodeError(f"has {size} bytes; at most {MAX_IMAGE_BYTES} are read")

        def attempt() -> bytes:
            if size is None:  # not stated, so it may be without end
                with self.filesystem.open(self.files[source_index], "rb", size=None) as file:
                    return bytes(file.read(MAX_IMAGE_BYTES + 1))  # which `to_encoded_image` rejects
            data: bytes = self.filesystem.cat_file(self.files[source_index])
            if size is not None and len(data) != size:
                raise OSError(f"returned {len(data)} of {size} bytes")
            return data

        return call_with_retries(self.get_label(source_index), attempt)

    def _relative(self, path: str) -> str:
        return str(PurePosixPath(path.removeprefix(self.root).lstrip("/")))


def _load(read: Callable[[], bytes]) -> EncodedImage:
    return to_encoded_image(read())

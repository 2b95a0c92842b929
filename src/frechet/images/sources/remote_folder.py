"""Image files below a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import PurePosixPath

from PIL import Image

from frechet._internal.remote_files import fetched_ahead, filesystem_of, opening, retried, shown, version_in
from frechet.errors import BadImage, SourceError
from frechet.images.image import Picture
from frechet.images.sources.files import LARGEST, is_hidden, is_image, open_image, seen, unread_in


class RemoteFolderSource:
    """Every image below a URL, in order of path; many are fetched at once, ahead of need."""

    address: str | None = None

    def __init__(self, url: str) -> None:
        self.name = shown(url)
        self.system, root = filesystem_of(url)
        found = opening(self.name, lambda: self.system.find(root, detail=True))
        self.root = root.rstrip("/")
        names = {path: self._relative(path) for path in sorted(found) if found[path].get("type") != "directory"}
        self.files = [path for path, name in names.items() if is_image(name) and not is_hidden(name)]
        if not self.files:
            raise SourceError(f"{self.name} holds no images: {seen(list(names.values()))}")
        self.unread = unread_in(name for name in names.values() if not is_hidden(name))
        self.versions = [version_in(found[path]) for path in self.files]
        self.sizes = [found[path].get("size") for path in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def name_of(self, place: int) -> str:
        return f"{self.name.rstrip('/')}/{self._relative(self.files[place])}"

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        requests = ((partial(self._read, place), [slice(None)]) for place in chosen)
        for index, (place, read) in enumerate(zip(chosen, fetched_ahead(requests), strict=True)):
            yield Picture(index, self.name_of(place), partial(_load, read))

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        yield from (f"{self._relative(self.files[place])} {self.versions[place]}" for place in chosen)

    def _read(self, place: int) -> bytes:
        size = self.sizes[place]
        if size is not None and size > LARGEST:
            raise BadImage(f"has {size} bytes; at most {LARGEST} are read")

        def once() -> bytes:
            data: bytes = self.system.cat_file(self.files[place])
            if size is not None and len(data) != size:
                raise OSError(f"gave {len(data)} of {size} bytes")
            return data

        return retried(self.name_of(place), once)

    def _relative(self, path: str) -> str:
        return str(PurePosixPath(path.removeprefix(self.root).lstrip("/")))


def _load(read: Callable[[], bytes]) -> Image.Image:
    return open_image(BytesIO(read()))

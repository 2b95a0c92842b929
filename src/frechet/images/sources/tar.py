"""Images in a tar (a WebDataset shard is one): listed by its headers, read in place, nothing in it followed outside."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from frechet._internal.remote_files import RemoteFile, fetched_ahead, spans_together
from frechet.errors import BadImage, SourceError
from frechet.images.image import Picture
from frechet.images.sources.files import (
    LARGEST,
    File,
    is_hidden,
    is_image,
    open_image,
    read_span,
    seen,
    size_of,
    unread_in,
    version_of,
)

_ENDING = 512  # bytes of zeros that follow the last member


class _Member(NamedTuple):
    name: str
    start: int
    size: int
    flaw: str | None = None


class TarSource:
    """Every image in a tar, in its order. Of a tar that was cut short, what was lost counts as one image that is bad."""

    address: str | None = None

    def __init__(self, file: File) -> None:
        self.name = str(file)
        self.file = file
        names: list[str] = []
        self.members = [member for member in _listed(file, names) if member.flaw or is_image(member.name)]
        if not self.members:
            raise SourceError(f"{file} holds no images: {seen(names)}")
        self.unread = unread_in(names)

    def __len__(self) -> int:
        return len(self.members)

    def name_of(self, place: int) -> str:
        return f"{self.name}:{self.members[place].name}"

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        if isinstance(self.file, RemoteFile):
            yield from self._pictures_ahead(chosen, self.file)
            return
        for index, place in enumerate(chosen):
            member = self.members[place]
            read = partial(read_span, self.file, member.start, member.size)
            yield Picture(index, self.name_of(place), partial(_load, member, read))

    def _pictures_ahead(self, chosen: Sequence[int], file: RemoteFile) -> Iterator[Picture]:
        spans = ((member.start, 0 if member.flaw else member.size) for member in map(self.members.__getitem__, chosen))
        requests = ((partial(file.read, start, count), cuts) for start, count, cuts in spans_together(spans))
        for index, (place, read) in enumerate(zip(chosen, fetched_ahead(requests), strict=True)):
            yield Picture(index, self.name_of(place), partial(_load, self.members[place], read))

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        version = version_of(self.file)
        for place in chosen:
            member = self.members[place]
            yield f"{self.file.name if isinstance(self.file, Path) else self.name} {version} {member.name} {member.start}"


def _listed(file: File, names: list[str]) -> Iterator[_Member]:
    """Files in the tar; `names` gathers what all of them are called."""
    size, end = size_of(file), 0
    places: dict[str, _Member] = {}
    try:
        with file.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for info in archive:
                archive.members = []  # type: ignore[attr-defined]  # or it would keep them all
                end = info.offset_data + -(-info.size // 512) * 512 if info.isreg() else info.offset_data
                if not info.isdir() and not is_hidden(info.name):
                    names.append(info.name)
                    places[info.name] = _member(info, places, size)
                if not info.isdir() and not 0 <= info.size <= size:
                    break  # nobody knows where the next one is; tarfile would look for it for ever
    except tarfile.TarError as error:
        if not places:
            raise SourceError(f"{file} is named .tar but cannot be read as one ({error})") from None
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror or error}") from None
    yield from places.values()
    if not any(member.flaw == _CUT for member in places.values()) and not _ends(file, end, size):
        yield _Member("(end)", size, 0, _CUT)


_CUT = "is where the archive was cut short or is damaged; what came after it is lost"


def _member(info: tarfile.TarInfo, places: dict[str, _Member], size: int) -> _Member:
    if info.issym() or info.islnk():
        target = _target(info)
        if target not in places:
            return _flawed(info, f"is a link to {info.linkname}, which is not among the files before it in its archive")
        return places[target]._replace(name=info.name)
    if not info.isreg() or info.sparse is not None:
        return _flawed(info, "is no regular file")
    if info.size < 0 or info.offset_data + info.size > size:
        return _flawed(info, _CUT)
    if info.size > LARGEST:
        return _flawed(info, f"has more than {LARGEST} bytes; larger images are not read")
    return _Member(info.name, info.offset_data, info.size)


def _flawed(info: tarfile.TarInfo, flaw: str) -> _Member:
    """A member that cannot be read: it counts as an image, unless its name says that it would be none."""
    return _Member(info.name, info.offset_data, 0, flaw if flaw == _CUT or is_image(info.name) else None)


def _target(info: tarfile.TarInfo) -> str:
    """The name that a link means: a hard link's from the archive's root, a symbolic link's from its folder."""
    import posixpath

    folder = posixpath.dirname(info.name) if info.issym() else ""
    return posixpath.normpath(posixpath.join(folder, info.linkname))


def _ends(file: File, end: int, size: int) -> bool:
    """Whether the zeros are there that a whole tar ends with."""
    return size >= end + _ENDING and not any(read_span(file, end, _ENDING))


def _load(member: _Member, read: Callable[[], bytes]) -> Image.Image:
    if member.flaw:
        raise BadImage(member.flaw)
    return open_image(BytesIO(read()))

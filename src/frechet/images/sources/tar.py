"""Images in a tar (a WebDataset shard is one): listed by its headers, read in place, nothing in it followed outside."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from frechet._internal.remote_files import RemoteFile, merge_ranges, prefetch
from frechet.errors import ImageDecodeError, SourceError
from frechet.images.image import ImageRef
from frechet.images.sources.files import (
    MAX_IMAGE_BYTES,
    File,
    count_unsupported,
    describe_contents,
    get_file_size,
    get_file_version,
    is_hidden,
    is_image,
    open_image,
    read_range,
)

_END_MARKER_BYTES = 512  # bytes of zeros that follow the last member


class _Member(NamedTuple):
    name: str
    start: int
    size: int
    problem: str | None = None


class TarSource:
    """Every image in a tar, in its order. Of a tar that was cut short, what was lost counts as one image that is bad."""

    location: str | None = None

    def __init__(self, file: File) -> None:
        self.label = str(file)
        self.file = file
        names: list[str] = []
        self.members = [member for member in _list_members(file, names) if member.problem or is_image(member.name)]
        if not self.members:
            raise SourceError(f"{file} holds no images: {describe_contents(names)}")
        self.unsupported = count_unsupported(names)

    def __len__(self) -> int:
        return len(self.members)

    def get_label(self, source_index: int) -> str:
        return f"{self.label}:{self.members[source_index].name}"

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        if isinstance(self.file, RemoteFile):
            yield from self._prefetch_images(source_indices, self.file)
            return
        for index, source_index in enumerate(source_indices):
            member = self.members[source_index]
            read = partial(read_range, self.file, member.start, member.size)
            yield ImageRef(index, self.get_label(source_index), partial(_load, member, read))

    def _prefetch_images(self, source_indices: Sequence[int], file: RemoteFile) -> Iterator[ImageRef]:
        ranges = (
            (member.start, 0 if member.problem else member.size)
            for member in map(self.members.__getitem__, source_indices)
        )
        requests = (
            (partial(file.read, start, count), byte_slices) for start, count, byte_slices in merge_ranges(ranges)
        )
        for index, (source_index, read) in enumerate(zip(source_indices, prefetch(requests), strict=True)):
            yield ImageRef(index, self.get_label(source_index), partial(_load, self.members[source_index], read))

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        version = get_file_version(self.file)
        for source_index in source_indices:
            member = self.members[source_index]
            yield f"{self.file.name if isinstance(self.file, Path) else self.label} {version} {member.name} {member.start}"


def _list_members(file: File, names: list[str]) -> Iterator[_Member]:
    """Files in the tar; `names` gathers what all of them are called."""
    size, end = get_file_size(file), 0
    members_by_name: dict[str, _Member] = {}
    try:
        with file.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for info in archive:
                archive.members = []  # type: ignore[attr-defined]  # or it would keep them all
                end = info.offset_data + -(-info.size // 512) * 512 if info.isreg() else info.offset_data
                if not info.isdir() and not is_hidden(info.name):
                    names.append(info.name)
                    members_by_name[info.name] = _parse_member(info, members_by_name, size)
                if not info.isdir() and not 0 <= info.size <= size:
                    break  # nobody knows where the next one is; tarfile would look for it for ever
    except tarfile.TarError as error:
        if not members_by_name:
            raise SourceError(f"{file} is named .tar but cannot be read as one ({error})") from None
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror or error}") from None
    yield from members_by_name.values()
    if not any(member.problem == _TRUNCATED for member in members_by_name.values()) and not _has_end_marker(
        file, end, size
    ):
        yield _Member("(end)", size, 0, _TRUNCATED)


_TRUNCATED = "is where the archive was cut short or is damaged; what came after it is lost"


def _parse_member(info: tarfile.TarInfo, members_by_name: dict[str, _Member], size: int) -> _Member:
    if info.issym() or info.islnk():
        target = _resolve_link(info)
        if target not in members_by_name:
            return _bad_member(
                info, f"is a link to {info.linkname}, which is not among the files before it in its archive"
            )
        return members_by_name[target]._replace(name=info.name)
    if not info.isreg() or info.sparse is not None:
        return _bad_member(info, "is no regular file")
    if info.size < 0 or info.offset_data + info.size > size:
        return _bad_member(info, _TRUNCATED)
    if info.size > MAX_IMAGE_BYTES:
        return _bad_member(info, f"has more than {MAX_IMAGE_BYTES} bytes; larger images are not read")
    return _Member(info.name, info.offset_data, info.size)


def _bad_member(info: tarfile.TarInfo, problem: str) -> _Member:
    """A member that cannot be read: it counts as an image, unless its name says that it would be none."""
    return _Member(info.name, info.offset_data, 0, problem if problem == _TRUNCATED or is_image(info.name) else None)


def _resolve_link(info: tarfile.TarInfo) -> str:
    """The name that a link means: a hard link's from the archive's root, a symbolic link's from its folder."""
    import posixpath

    folder = posixpath.dirname(info.name) if info.issym() else ""
    return posixpath.normpath(posixpath.join(folder, info.linkname))


def _has_end_marker(file: File, end: int, size: int) -> bool:
    """Whether the zeros are there that a whole tar ends with."""
    return size >= end + _END_MARKER_BYTES and not any(read_range(file, end, _END_MARKER_BYTES))


def _load(member: _Member, read: Callable[[], bytes]) -> Image.Image:
    if member.problem:
        raise ImageDecodeError(member.problem)
    return open_image(BytesIO(read()))

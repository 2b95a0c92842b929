"""Image files in a tar archive (a WebDataset shard is one), read without unpacking it; no link leads outside of it."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from frechet._internal.remote_files import RemoteFile, merge_ranges, prefetch
from frechet.errors import ImageDecodeError, SourceError
from frechet.images.image import EncodedImage
from frechet.images.pixels import MAX_IMAGE_BYTES
from frechet.images.sources.files import (
    File,
    FileSource,
    count_unsupported,
    describe_contents,
    get_file_size,
    get_file_version,
    is_hidden,
    is_image,
    list_containers,
    read_range,
)

_END_MARKER_BYTES = 512  # zeros that follow the last member
_TRUNCATED = "is where the archive is truncated or damaged; everything after it is lost"


class _Member(NamedTuple):
    name: str
    start: int
    size: int
    problem: str | None = None


class TarSource(FileSource):
    """All image files in a tar archive, in its order. What is lost at the end of a truncated archive counts as one bad image."""

    def __init__(self, file: File) -> None:
        super().__init__(file)
        names: list[str] = []
        self.members = [member for member in _list_members(file, names) if member.problem or is_image(member.name)]
        if not self.members:
            raise SourceError(f"{file} contains no images{describe_contents(names)}")
        self.unsupported, self.containers = count_unsupported(names), list_containers(names)

    def __len__(self) -> int:
        return len(self.members)

    def get_label(self, source_index: int) -> str:
        return f"{self.label}:{self.get_member_name(source_index)}"

    def get_member_name(self, source_index: int) -> str:
        return self.members[source_index].name

    def iter_loaders(self, source_indices: Sequence[int]) -> Iterator[Callable[[], EncodedImage]]:
        members = [self.members[source_index] for source_index in source_indices]
        if isinstance(self.file, RemoteFile):
            ranges = ((member.start, 0 if member.problem else member.size) for member in members)
            requests = (
                (partial(self.file.read, start, count), byte_slices)
                for start, count, byte_slices in merge_ranges(ranges)
            )
            reads = prefetch(requests)
        else:
            reads = (partial(read_range, self.file, member.start, member.size) for member in members)
        for member, read in zip(members, reads, strict=True):
            yield partial(_load, member, read)

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        version = get_file_version(self.file)
        name = self.file.name if isinstance(self.file, Path) else self.label
        for source_index in source_indices:
            member = self.members[source_index]
            yield f"{name} {version} {member.name} {member.start}"


def _list_members(file: File, names: list[str]) -> Iterator[_Member]:
    """Yield the files in the archive and append the names of all of them to `names`."""
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
                    break  # the start of the next member is unknown; tarfile would search without end (CVE-2025-8194)
    except tarfile.TarError as error:
        if not members_by_name:
            raise SourceError(f"{file} is named .tar but cannot be read as one ({error})") from None
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror or error}") from None
    yield from members_by_name.values()
    is_truncated = any(member.problem == _TRUNCATED for member in members_by_name.values())
    if not is_truncated and not _has_end_marker(file, end, size):
        yield _Member("(end)", size, 0, _TRUNCATED)


def _parse_member(info: tarfile.TarInfo, members_by_name: dict[str, _Member], size: int) -> _Member:
    if info.issym() or info.islnk():
        target = _resolve_link(info)
        if target not in members_by_name:
            return _bad_member(
                info, f"is a link to {info.linkname}, which is not among the files before it in its archive"
            )
        return members_by_name[target]._replace(name=info.name)
    if not info.isreg() or info.sparse is not None:
        return _bad_member(info, "is not a regular file")
    if info.size < 0 or info.offset_data + info.size > size:
        return _bad_member(info, _TRUNCATED)
    if info.size > MAX_IMAGE_BYTES:
        return _bad_member(info, f"has more than {MAX_IMAGE_BYTES} bytes; larger images are not read")
    return _Member(info.name, info.offset_data, info.size)


def _bad_member(info: tarfile.TarInfo, problem: str) -> _Member:
    """Create a member that cannot be read; it counts as an image unless its name shows that it is not one."""
    return _Member(info.name, info.offset_data, 0, problem if problem == _TRUNCATED or is_image(info.name) else None)


def _resolve_link(info: tarfile.TarInfo) -> str:
    """Return the member that a link refers to: hard links from the archive's root, symbolic links from their folder."""
    folder = posixpath.dirname(info.name) if info.issym() else ""
    return posixpath.normpath(posixpath.join(folder, info.linkname))


def _has_end_marker(file: File, end: int, size: int) -> bool:
    """Return whether the zeros that end a complete archive are there."""
    return size >= end + _END_MARKER_BYTES and not any(read_range(file, end, _END_MARKER_BYTES))


def _load(member: _Member, read: Callable[[], bytes]) -> EncodedImage:
    if member.problem:
        raise ImageDecodeError(member.problem)
    return EncodedImage(read())

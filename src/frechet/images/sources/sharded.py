"""Several files as one source: a pattern of shards."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from glob import glob
from itertools import accumulate, groupby
from math import prod
from pathlib import Path

from frechet._internal.remote_files import is_url, open_filesystem, open_with_retries, redact_url
from frechet.errors import SourceError
from frechet.images.image import ImageRef, ImageSource, get_unsupported

_BRACES = re.compile(r"\{([^{}]*)\}")
_MAX_SHARDS = 100_000  # shards of one pattern


class ShardedSource:
    """The images of several sources, one source after the other."""

    location: str | None = None

    def __init__(self, name: str, sources: Sequence[ImageSource]) -> None:
        self.label = name
        self.sources = sources
        self.offsets = [0, *accumulate(len(source) for source in sources)]
        self.unsupported = sum(map(get_unsupported, sources), Counter[str]())

    def __len__(self) -> int:
        return self.offsets[-1]

    def get_label(self, source_index: int) -> str:
        shard = self._shard_index(source_index)
        return self.sources[shard].get_label(source_index - self.offsets[shard])

    def iter_images(self, source_indices: Sequence[int]) -> Iterator[ImageRef]:
        before = 0
        for shard, group in groupby(source_indices, self._shard_index):
            shard_indices = [source_index - self.offsets[shard] for source_index in group]
            for image_ref in self.sources[shard].iter_images(shard_indices):
                yield replace(image_ref, index=before + image_ref.index)
            before += len(shard_indices)

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        for shard, group in groupby(source_indices, self._shard_index):
            yield from self.sources[shard].fingerprints([source_index - self.offsets[shard] for source_index in group])

    def _shard_index(self, source_index: int) -> int:
        return bisect_right(self.offsets, source_index) - 1


def expand_pattern(pattern: str) -> list[str]:
    """The files that a pattern means: braces as in a shell ({000..127}, {train,test}), then * and ? by what is there.

    Raises:
        SourceError: a range without end, too many files, or none.
    """
    names = _expand_braces(pattern)
    if not re.search(r"[*?]", pattern.partition("?")[0] if is_url(pattern) else pattern):
        return names
    found = [match for name in names for match in sorted(_glob(name))]
    if not found:
        raise SourceError(f"no file matches {redact_url(pattern) if is_url(pattern) else pattern}")
    return found


def is_pattern(path: str) -> bool:
    """Whether a path names several files: it has braces or stars, and there is no file of just that name."""
    return bool(re.search(r"\{[^{}]*(,|\.\.)[^{}]*\}|\*", path)) and (is_url(path) or not Path(path).exists())


def _glob(name: str) -> list[str]:
    if not is_url(name):
        return glob(name, recursive=True)  # noqa: PTH207, a Path takes no absolute pattern
    filesystem, path = open_filesystem(name)
    return [
        str(filesystem.unstrip_protocol(found))
        for found in open_with_retries(redact_url(name), lambda: filesystem.glob(path))
    ]


def _expand_braces(pattern: str) -> list[str]:
    if prod(len(_expand_choices(body)) for body in _BRACES.findall(pattern)) > _MAX_SHARDS:
        raise SourceError(f"{redact_url(pattern) if is_url(pattern) else pattern} names more than {_MAX_SHARDS} files")
    names = [pattern]
    while any(_BRACES.search(name) for name in names):
        names = [
            f"{name[: braces.start()]}{choice}{name[braces.end() :]}"
            for name in names
            for braces in [_BRACES.search(name)]
            if braces
            for choice in _expand_choices(braces[1])
        ]
    return names


def _expand_choices(body: str) -> Sequence[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", body)
    if not numbers:
        return body.split(",")
    first, last = numbers.groups()
    if not 0 <= int(last) - int(first) < _MAX_SHARDS:
        raise SourceError(f"{{{body}}} is no range of shards: expected {{first..last}}, at most {_MAX_SHARDS}")
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]

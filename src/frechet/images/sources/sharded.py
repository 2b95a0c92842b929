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

from frechet._internal.remote_files import filesystem_of, is_url, opening, shown
from frechet.errors import SourceError
from frechet.images.image import Picture, Source, unread_of

_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST = 100_000  # shards of one pattern


class ShardedSource:
    """The images of several sources, one source after the other."""

    address: str | None = None

    def __init__(self, name: str, sources: Sequence[Source]) -> None:
        self.name = name
        self.sources = sources
        self.starts = [0, *accumulate(len(source) for source in sources)]
        self.unread = sum(map(unread_of, sources), Counter[str]())

    def __len__(self) -> int:
        return self.starts[-1]

    def name_of(self, place: int) -> str:
        shard = self._shard_of(place)
        return self.sources[shard].name_of(place - self.starts[shard])

    def pictures(self, chosen: Sequence[int]) -> Iterator[Picture]:
        before = 0
        for shard, group in groupby(chosen, self._shard_of):
            places = [place - self.starts[shard] for place in group]
            for picture in self.sources[shard].pictures(places):
                yield replace(picture, index=before + picture.index)
            before += len(places)

    def marks(self, chosen: Sequence[int]) -> Iterator[str]:
        for shard, group in groupby(chosen, self._shard_of):
            yield from self.sources[shard].marks([place - self.starts[shard] for place in group])

    def _shard_of(self, place: int) -> int:
        return bisect_right(self.starts, place) - 1


def shards_of(pattern: str) -> list[str]:
    """The files that a pattern means: braces as in a shell ({000..127}, {train,test}), then * and ? by what is there.

    Raises:
        SourceError: a range without end, too many files, or none.
    """
    names = _expanded(pattern)
    if not re.search(r"[*?]", pattern.partition("?")[0] if is_url(pattern) else pattern):
        return names
    found = [match for name in names for match in sorted(_matching(name))]
    if not found:
        raise SourceError(f"no file matches {shown(pattern) if is_url(pattern) else pattern}")
    return found


def is_pattern(path: str) -> bool:
    """Whether a path names several files: it has braces or stars, and there is no file of just that name."""
    return bool(re.search(r"\{[^{}]*(,|\.\.)[^{}]*\}|\*", path)) and (is_url(path) or not Path(path).exists())


def _matching(name: str) -> list[str]:
    if not is_url(name):
        return glob(name, recursive=True)  # noqa: PTH207, a Path takes no absolute pattern
    system, path = filesystem_of(name)
    return [str(system.unstrip_protocol(found)) for found in opening(shown(name), lambda: system.glob(path))]


def _expanded(pattern: str) -> list[str]:
    if prod(len(_choices(inside)) for inside in _BRACES.findall(pattern)) > _MOST:
        raise SourceError(f"{shown(pattern) if is_url(pattern) else pattern} names more than {_MOST} files")
    names = [pattern]
    while any(_BRACES.search(name) for name in names):
        names = [
            f"{name[: braces.start()]}{choice}{name[braces.end() :]}"
            for name in names
            for braces in [_BRACES.search(name)]
            if braces
            for choice in _choices(braces[1])
        ]
    return names


def _choices(inside: str) -> Sequence[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if not numbers:
        return inside.split(",")
    first, last = numbers.groups()
    if not 0 <= int(last) - int(first) < _MOST:
        raise SourceError(f"{{{inside}}} is no range of shards: expected {{first..last}}, at most {_MOST}")
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]

"""Several files as one source: a pattern of shards."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from glob import glob
from itertools import accumulate, groupby
from math import prod
from pathlib import Path

from frechet._internal.remote_files import is_url, open_filesystem, open_with_retries, redact_url
from frechet.errors import SourceError
from frechet.images.image import ImageLike, ImageSource

_BRACES = re.compile(r"\{([^{}]*)\}")
_MAX_SHARDS = 100_000  # per pattern


class ShardedSource(ImageSource):
    """The images of several sources, one source after the other."""

    def __init__(self, label: str, sources: Sequence[ImageSource]) -> None:
        super().__init__(label)
        self.sources = sources
        self.offsets = [0, *accumulate(len(source) for source in sources)]
        self.unsupported = sum((source.unsupported for source in sources), Counter[str]())
        self.containers = tuple(name for source in sources for name in source.containers)

    def __len__(self) -> int:
        return self.offsets[-1]

    def get_label(self, source_index: int) -> str:
        source, index = self._find(source_index)
        return source.get_label(index)

    def get_member_name(self, source_index: int) -> str | None:
        source, index = self._find(source_index)
        return source.get_member_name(index)

    def locate(self, source_index: int) -> tuple[Path | None, str | None]:
        source, index = self._find(source_index)
        return source.locate(index)

    def iter_loaders(self, source_indices: Sequence[int]) -> Iterator[Callable[[], ImageLike]]:
        for source, indices in self._group(source_indices):
            yield from source.iter_loaders(indices)

    def get_class_names(self, source_indices: Sequence[int]) -> list[str]:
        return [name for source, indices in self._group(source_indices) for name in source.get_class_names(indices)]

    def fingerprints(self, source_indices: Sequence[int]) -> Iterator[str]:
        for source, indices in self._group(source_indices):
            yield from source.fingerprints(indices)

    def _group(self, source_indices: Sequence[int]) -> Iterator[tuple[ImageSource, list[int]]]:
        """Yield each shard with the indices in it of its images."""
        for shard, group in groupby(source_indices, self._shard_index):
            yield self.sources[shard], [source_index - self.offsets[shard] for source_index in group]

    def _find(self, source_index: int) -> tuple[ImageSource, int]:
        shard = self._shard_index(source_index)
        return self.sources[shard], source_index - self.offsets[shard]

    def _shard_index(self, source_index: int) -> int:
        return bisect_right(self.offsets, source_index) - 1


def expand_pattern(pattern: str) -> list[str]:
    """Return the files that a pattern names: braces as in a shell ({000..127}, {train,test}), then * and ? by matching.

    Raises:
        SourceError: a range is invalid, or the pattern names too many files or none.
    """
    names = _expand_braces(pattern)
    if not re.search(r"[*?]", pattern.partition("?")[0] if is_url(pattern) else pattern):
        return names
    found = [match for name in names for match in sorted(_glob(name))]
    if not found:
        raise SourceError(f"no file matches {redact_url(pattern) if is_url(pattern) else pattern}")
    return found


def is_pattern(path: str) -> bool:
    """Return whether a path names several files: it has braces or stars, and no file has exactly that name."""
    return bool(re.search(r"\{[^{}]*(,|\.\.)[^{}]*\}|\*", path)) and (is_url(path) or not Path(path).exists())


def _glob(name: str) -> list[str]:
    if not is_url(name):
        return glob(name, recursive=True)  # noqa: PTH207, Path.glob accepts no absolute pattern
    filesystem, path = open_filesystem(name)
    return [
        str(filesystem.unstrip_protocol(found))
        for found in open_with_retries(redact_url(name), lambda: filesystem.glob(path))
    ]


def _expand_braces(pattern: str) -> list[str]:
    if prod(len(_expand_choices(body)) for body in _BRACES.findall(pattern)) > _MAX_SHARDS:
        raise SourceError(
            f"{redact_url(pattern) if is_url(pattern) else pattern} matches more than {_MAX_SHARDS} files; pass a pattern that matches fewer, or merge shards"
        )
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
        raise SourceError(
            f"{{{body}}} is not a valid shard range; expected {{first..last}} with at most {_MAX_SHARDS} shards"
        )
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]

"""Tables of named entries (metrics, extractors, preprocessings) that users and installed packages can extend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from frechet.errors import RequestError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Named entries in the order in which they were registered, followed by those of installed packages.

    An installed package adds an entry through an entry point: its name is the entry's name and its value the object. It is
    imported when the entry is looked up, never when names are listed, so that one broken package costs nothing else.

    Args:
        kind: what an entry is called in messages, e.g. "metric".
        entry_type: the class that every entry must be an instance of.
        group: the entry-point group, e.g. "frechet.metrics".
        entries: the built-in entries by name.

    Example:
        >>> registry = Registry("number", int, "frechet.numbers", {"one": 1})
        >>> registry.register("two", 2)
        >>> registry["two"]
        2
    """

    def __init__(self, kind: str, entry_type: type[T], group: str, entries: Mapping[str, T]) -> None:
        self.kind = kind
        self.entry_type = entry_type
        self.group = group
        self._entries = dict(entries)

    def register(self, name: str, entry: T) -> None:
        """Add an entry.

        Raises:
            RequestError: the name is empty, holds a character other than letters, digits and ``-_.``, or is taken;
                or the entry is not an instance of the registry's type.
        """
        if not name or not all(c.isalnum() or c in "-_." for c in name):
            raise RequestError(f"{name!r} is not a valid {self.kind} name; use letters, digits, '-', '_' and '.'")
        if name in self:
            raise RequestError(f"the {self.kind} {name!r} is already registered; choose another name")
        self._entries[name] = self._validate_type(name, entry)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            self._entries[name] = self._load(self._plugins()[name])
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._entries
        yield from (name for name in self._plugins() if name not in self._entries)

    def __len__(self) -> int:
        return len(self._entries.keys() | self._plugins().keys())

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._plugins()

    def _plugins(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in sorted(entry_points(group=self.group), key=lambda entry: entry.name)}

    def _load(self, plugin: EntryPoint) -> T:
        try:
            entry = plugin.load()
        except Exception as error:  # importing a package may fail in any way
            raise RequestError(
                f"the {self.kind} {plugin.name!r} of an installed package ({plugin.value}) cannot be loaded: "
                f"{type(error).__name__}: {error}. Fix or uninstall that package."
            ) from error
        return self._validate_type(plugin.name, entry)

    def _validate_type(self, name: str, entry: object) -> T:
        if not isinstance(entry, self.entry_type):
            raise RequestError(
                f"the {self.kind} {name!r} is of type {type(entry).__name__}; expected {self.entry_type.__name__}"
            )
        return entry

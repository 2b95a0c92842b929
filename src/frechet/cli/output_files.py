"""Output files of commands: their paths are checked before anything is computed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from frechet._internal.atomic_write import atomic_write, check_output_path
from frechet.errors import RequestError


def check_output_files(files: Mapping[str, Path | None], *, force: bool) -> None:
    """Reject paths that cannot be written and files that two options name.

    Args:
        files: path of each option, e.g. {"--output": Path("run.json")}; None if the option is not given.
        force: allow existing files, which will be replaced.

    Raises:
        OutputError: a path is not valid, or its file exists.
        RequestError: two options name the same file.
    """
    suffixes = {"--report": ".html", "--model-card": ".md"}
    given = {option: path for option, path in files.items() if path}
    for option, path in given.items():
        check_output_path(path, suffix=suffixes.get(option), force=force)
    for (one, path), (other, same) in itertools.combinations(given.items(), 2):
        if path.resolve() == same.resolve():
            raise RequestError(f"{one} and {other} both name {path}; use two different files")


def write_text(text: str, path: Path, *, force: bool) -> None:
    """Write a text file completely or not at all.

    Raises:
        OutputError: the path is not valid, or the file exists.
        RunError: the file cannot be written.
    """
    with atomic_write(path, force=force) as temporary_path:
        temporary_path.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names need not be Unicode

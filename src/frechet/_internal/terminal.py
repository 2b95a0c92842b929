"""Exit codes, standard streams and messages of commands, and escaping of text for a terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import click

from frechet.errors import FrechetError, RunError


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn errors into a message on stderr and an exit code.

    2: the request is invalid; 3: the run failed; 130: interrupted. Errors that frechet does not raise deliberately pass
    through with their traceback.
    """
    try:
        _allow_any_text(sys.stdout)
        yield
        _require_stdout()
    except FrechetError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        _show(error)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt) as stop:
        _fail(f"interrupted{stop}", 130)
    except BrokenPipeError:  # the reader closed the pipe
        sys.exit(0)
    except OSError as error:
        _fail(str(error), 3)
    except (MemoryError, ImportError, RuntimeError) as error:
        if not (reason := _describe_lack_of_resources(error)):
            raise
        _fail(reason, 3)
    finally:
        for stream in (sys.stdout, sys.stderr):
            _discard_if_broken(stream)


def run_all(steps: Iterable[Callable[[], object]]) -> None:
    """Take every step that publishes a result, even if an earlier one fails.

    Raises:
        RunError: steps failed; the message names all failures.
        BrokenPipeError: nothing failed except that the reader of stdout closed the pipe.
    """
    errors = list[Exception]()
    for step in steps:
        try:
            step()
        except (FrechetError, OSError) as error:
            errors.append(error)
    failures = [error for error in errors if not isinstance(error, BrokenPipeError)]
    if failures:
        raise RunError("\n".join(map(str, failures))) from failures[0]
    if errors:
        raise errors[0]


def print_stderr(text: str) -> None:
    """Print a line to stderr, if it can be written: a closed or full stderr must not cost a result."""
    if sys.stderr is not None:  # print(file=None) would use stdout
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def escape_text(text: str) -> str:
    """Escape control characters, which file names may contain; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def escape_line(text: str) -> str:
    """Escape control characters and line breaks, so that the text stays on one line."""
    return escape_text(text).replace("\n", "\\n")


def _fail(message: str, code: int) -> None:
    print_stderr(f"error: {escape_text(message)}")
    sys.exit(code)


def _describe_lack_of_resources(error: Exception) -> str | None:
    """Return what this machine or the limits of this process lack, or None if the error is a bug."""
    if isinstance(error, MemoryError):
        return (
            "the memory that this process may use is exhausted. Pass a smaller --batch-size, or allow more (ulimit -v)."
        )
    if isinstance(error, ImportError) and error.path and "shared object" in str(error):
        return (
            f"{error.name} cannot be loaded ({error}). Install it again, or allow this process more memory (ulimit -v)."
        )
    if "can't start new thread" in str(error):
        return "this process may not start more threads. Pass a smaller --workers, or allow more (ulimit -u)."
    return None


def _show(error: click.ClickException) -> None:
    text = io.StringIO()
    error.show(file=text)
    print_stderr(text.getvalue().rstrip("\n"))


def _allow_any_text(stream: TextIO | None) -> None:
    """Escape characters that the stream's encoding lacks, instead of failing."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def _require_stdout() -> None:
    if sys.stdout is None:
        raise RunError("stdout is closed, so nothing was printed. Redirect it to a file, or to /dev/null.")
    sys.stdout.flush()


def _discard_if_broken(stream: TextIO | None) -> None:
    """Discard what a stream cannot write; Python would report it at the exit (Python docs, SIGPIPE)."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

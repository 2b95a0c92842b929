"""Exit codes and error messages of commands, and escaping of text for a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from frechet.errors import FrechetError


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn errors into a message on stderr and an exit code.

    2: the request is invalid; 3: the run failed; 130: interrupted. Errors that frechet does not raise deliberately pass
    through with their traceback.
    """
    try:
        yield
        sys.stdout.flush()
    except FrechetError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt) as stop:
        _fail(f"interrupted{stop}", 130)
    except BrokenPipeError:  # the reader closed the pipe; a further flush would raise again (Python docs, SIGPIPE)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(str(error), 3)


def escape_text(text: str) -> str:
    """Escape control characters, which file names may contain; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def escape_line(text: str) -> str:
    """Escape control characters and line breaks, so that the text stays on one line."""
    return escape_text(text).replace("\n", "\\n")


def _fail(message: str, code: int) -> None:
    print(f"error: {escape_text(message)}", file=sys.stderr)
    sys.exit(code)

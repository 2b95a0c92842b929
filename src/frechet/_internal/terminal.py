"""How a command ends: with a sentence on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from frechet.errors import FrechetError


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Exit for whatever is raised on purpose: 2 the request is wrong, 3 the run failed, 130 interrupted."""
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
    except BrokenPipeError:  # whoever read our output has read enough; Python's docs: nothing may be flushed again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(str(error), 3)


def escape_text(text: str) -> str:
    """The text with control characters (a file name may hold some) made visible."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def escape_line(text: str) -> str:
    """The same for a cell of a table: line ends are made visible too."""
    return escape_text(text).replace("\n", "\\n")


def _fail(message: str, code: int) -> None:
    print(f"error: {escape_text(message)}", file=sys.stderr)
    sys.exit(code)

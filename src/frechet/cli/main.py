"""`frechet`: the group of commands, each loaded when it is asked for."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from frechet._internal.terminal import exit_on_error
from frechet.cli.migration_hints import add_migration_hint
from frechet.version import __version__

_COMMANDS = {
    "score": "Score generated images against reference images.",
    "stats": "Write statistics of images for later comparisons.",
    "compare": "Put many runs side by side, and say which differ.",
    "demo": "See FID rise on real photographs, offline, in about a minute.",
    "metrics": "List the metrics, what each sees and needs.",
    "extractors": "List the extractors, their dimensions, backends and weights.",
    "cache": "List or prune the features that --cache kept.",
    "weights": "List, fetch or verify the networks' weights.",
    "doctor": "Say what works on this machine, and how to mend what does not.",
}


class _LazyGroup(click.Group):
    """A group whose commands live in modules of their own, so that --help loads none of them."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"frechet.cli.{name}").command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and Path(args[0]).exists():  # as pytorch-fid is called
            raise click.UsageError(
                f"{args[0]} is no command; to score it: frechet score {shlex.join(args)}", ctx=context
            )
        return super().resolve_command(context, args)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="frechet")
def frechet() -> None:
    """How close are generated images to reference images?

    \b
    frechet score samples/ reference/           FID of two folders
    frechet stats reference/ reference.npz      once, then:
    frechet score samples/ reference.npz
    frechet demo                                offline, on real photographs
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 the request is wrong, 3 the run failed, 130 interrupted."""
    with exit_on_error():
        code = _invoke(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
        sys.exit(code)


def _invoke(argv: list[str]) -> int:
    """Parse and call; not click's own `main`, which answers a closed pipe with exit code 1."""
    try:
        with frechet.make_context("frechet", argv) as context:
            frechet.invoke(context)
    except click.NoSuchOption as error:
        raise add_migration_hint(error) from None
    except click.exceptions.Exit as done:
        return done.exit_code
    return 0

"""`frechet`: the group of commands, each loaded when it is used."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from frechet._internal.choices import find_nearest
from frechet._internal.terminal import escape_line, exit_on_error
from frechet.cli.migration_hints import add_migration_hint
from frechet.version import __version__

_COMMANDS = {
    "score": "Score generated images against reference images.",
    "stats": "Write statistics of images for later comparisons.",
    "verify": "Check that a run file is consistent with its samples.",
    "diagnose": "Find the settings that give a reported value.",
    "power": "Report how many images are needed to detect a difference.",
    "race": "Find the best of several models with as few images as possible.",
    "compare": "Compare runs and show which differ significantly.",
    "demo": "Score corrupted photographs (offline, about a minute).",
    "protocols": "List the protocols of papers and benchmarks, with published values.",
    "metrics": "List the metrics and what each of them requires.",
    "extractors": "List the extractors, their dimensions, backends and weights.",
    "cache": "List or delete cached features.",
    "reference": "List, download, verify or identify named reference statistics.",
    "weights": "List, download or verify network weights.",
    "doctor": "Check the installation and suggest fixes.",
}
_COMPLETE = "_FRECHET_COMPLETE"  # the variable through which click's scripts ask for completions


class _LazyGroup(click.Group):
    """A group that imports the module of a command when the command is used, so that --help stays fast."""

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
        if args[0] not in _COMMANDS and not context.resilient_parsing:  # as it is while a shell completes
            raise click.UsageError(f"{escape_line(args[0])} is not a command. {_suggest_command(args)}", ctx=context)
        return super().resolve_command(context, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        commands = [CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)]
        return commands or click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="frechet")
def frechet() -> None:
    """Measure how close generated images are to reference images.

    \b
    frechet score samples/ reference/           Compute the FID of two folders.
    frechet stats reference/ reference.npz      Store the statistics of a reference.
    frechet score samples/ reference.npz        Compute the FID against stored statistics.
    frechet demo                                Score corrupted photographs (offline).
    """


def _suggest_command(args: Sequence[str]) -> str:
    """Return what was probably meant by arguments that begin with no command."""
    if Path(args[0]).exists() or "/" in args[0]:  # as pytorch-fid is called
        return f"Did you mean: frechet score {escape_line(shlex.join(args))}?"
    nearest = find_nearest(args[0], _COMMANDS)
    if nearest:
        return f"Did you mean: frechet {escape_line(shlex.join([nearest, *args[1:]]))}?"
    return f"Choose from {', '.join(_COMMANDS)}."


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 invalid request, 3 failed run, 130 interrupted."""
    with exit_on_error():
        code = _complete() if _COMPLETE in os.environ else _invoke(sys.argv[1:] if argv is None else list(argv))
    sys.exit(code)


def _invoke(argv: list[str]) -> int:
    """Parse and call. Click's own `main` is not used, because it exits with code 1 on a closed pipe."""
    try:
        with frechet.make_context("frechet", _put_command_first(argv)) as context:
            frechet.invoke(context)
    except click.NoSuchOption as error:
        raise add_migration_hint(error) from None
    except click.exceptions.Exit as done:
        return done.exit_code
    return 0


def _put_command_first(argv: list[str]) -> list[str]:
    """Move the command in front of the options that precede it: frechet --json score A B."""
    if not argv or not argv[0].startswith("-") or argv[0] in ("-h", "--help", "--version"):
        return argv
    start = next((index for index, word in enumerate(argv) if word in _COMMANDS), None)
    if start is None:
        return argv
    is_group = isinstance(frechet.get_command(None, argv[start]), click.Group)  # type: ignore[arg-type]
    end = start + (2 if is_group else 1)
    return [*argv[start:end], *argv[:start], *argv[end:]]


def _complete() -> int:
    """Answer the shell's request to complete a command, or print the script that sends such requests."""
    shell, _, action = os.environ[_COMPLETE].partition("_")
    completion_class = get_completion_class(shell)
    if completion_class is None or action not in ("source", "complete"):
        raise click.UsageError(
            f"{_COMPLETE} is {escape_line(os.environ[_COMPLETE])}; expected bash_source, zsh_source or fish_source"
        )
    completion = completion_class(frechet, {}, "frechet", _COMPLETE)
    print(completion.source() if action == "source" else completion.complete())
    return 0

"""docs/cli.md: what every command answers to --help. Write it anew with `python tests/help_pages.py`."""

from pathlib import Path

import click

from frechet.cli.main import frechet

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# Command line

What `--help` says, made from the parser itself (`python tests/help_pages.py`). What it means is in the [reference](reference.md).
"""


def help_page() -> str:
    return HEAD + "".join(_section(*found) for found in _commands(frechet, "frechet", None))


def _commands(command, name, parent):
    """A command and, if it is a group, those below it: (its words, its context)."""
    width = {"terminal_width": 110, "max_content_width": 110}
    context = command.make_context(name, [], parent=parent, resilient_parsing=True, **width)
    yield context.command_path, context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from _commands(command.get_command(context, below), below, context)


def _section(words, context):
    return f"\n## `{words}`\n\n```text\n{context.command.get_help(context)}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(help_page(), encoding="utf-8")

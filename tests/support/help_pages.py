"""docs/cli.md: what every command answers to --help. Write it anew with `python tests/support/help_pages.py`."""

from pathlib import Path

import click

from frechet.cli.main import frechet

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEADER = """# Command line

What `--help` says, made from the parser itself (`python tests/support/help_pages.py`). What it means is in the [reference](reference.md).
"""


def render_help_page() -> str:
    return HEADER + "".join(_render_section(*found) for found in _iter_commands(frechet, "frechet", None))


def _iter_commands(command, name, parent):
    """A command and, if it is a group, those below it: (its words, its context)."""
    width = {"terminal_width": 110, "max_content_width": 110}
    context = command.make_context(name, [], parent=parent, resilient_parsing=True, **width)
    yield context.command_path, context
    if isinstance(command, click.Group):
        for subcommand in command.list_commands(context):
            yield from _iter_commands(command.get_command(context, subcommand), subcommand, context)


def _render_section(command_path, context):
    return f"\n## `{command_path}`\n\n```text\n{context.command.get_help(context)}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(render_help_page(), encoding="utf-8")

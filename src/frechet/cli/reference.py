"""`frechet reference`: list, fetch, verify, identify, add."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from frechet._internal.choices import validate_choice
from frechet._internal.remote_files import is_url, redact_url
from frechet._internal.terminal import escape_line
from frechet.cli.progress import progress_bars, progress_option
from frechet.errors import StatisticsError
from frechet.preprocessing.registry import PREPROCESSINGS
from frechet.protocols import references
from frechet.protocols.references_identify import IdentifiedFile, identify
from frechet.protocols.references_table import REFERENCES, Fingerprint, Reference


@click.group()
def command() -> None:
    """Manage named reference statistics (ref:NAME).

    \b
    frechet score samples/ ref:adm-imagenet-256
    """


@command.command("list", short_help="List the named references.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with everything known about each reference.")
def list_(as_json: bool) -> None:
    """List the named references. Nothing is downloaded.

    SHA256 is "published", "recorded" at the first download, or "-" before it.
    """
    table = references.list_references()
    if as_json:
        click.echo(json.dumps({name: asdict(each) for name, each in table.items()}, indent=2))
        return
    rows = [(name, *_format_row(name, each)) for name, each in table.items()]
    _print_table(("NAME", "DIMS", "IMAGES", "PREPROCESSING", "SHA256", "WHAT"), rows)


@command.command(short_help="Download a reference and verify it.")
@click.argument("name")
@progress_option
@click.option("--force", is_flag=True, help="Accept a file that differs from the one recorded earlier, and record it.")
def fetch(name: str, progress_mode: str, force: bool) -> None:
    """Download the reference NAME into the cache and verify its sha256.

    If no sha256 has been published, the first download is recorded, and later ones must be the same file.
    """
    with progress_bars(progress_mode) as progress:
        fetched = references.fetch(name, progress, accept_changed=force)
    _print_fetched(fetched)


@command.command(short_help="Compare downloaded files with their recorded sha256.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def verify(names: Sequence[str]) -> None:
    """Compare the downloaded file of each NAME (default: all) with its published or recorded sha256."""
    failures = []
    for name in names or references.list_references():
        try:
            path = references.verify(name)
        except StatisticsError as error:
            failures.append(str(error))
            continue
        if path is not None:
            click.echo(f"{name}: {path} is the expected file")
        elif names:
            failures.append(f"{name} has not been downloaded; download it with: frechet reference fetch {name}")
    if failures:
        raise StatisticsError("\n".join(failures))


@command.command("identify", short_help="Recognise a file of statistics by its content.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def identify_(file: Path, as_json: bool) -> None:
    """Recognise FILE by its content: its format, and the references that have the same bytes or the same values.

    References that were downloaded before are recognised by their bytes or values, and the others by a published sha256.
    """
    found = identify(file)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    _print_identified(file, found)


@command.command(short_help="Add a statistics file under a name.")
@click.argument("name")
@click.argument("address", metavar="FILE_OR_URL")
@click.option("--title", default="", metavar="TEXT", help="What the statistics were computed from.")
@click.option("--size", type=click.IntRange(min=2), metavar="N", help="Number of images behind the statistics.")
@click.option("--extractor", metavar="NAME", help="Extractor of the features.")
@click.option("--preprocessing", metavar="NAME", help="Preprocessing of the images.")
@progress_option
@click.option("--force", is_flag=True, help="Replace an earlier reference of this name.")
def add(name: str, address: str, progress_mode: str, force: bool, **facts: Any) -> None:
    """Add the statistics FILE_OR_URL under the name ref:NAME, and record their sha256.

    \b
    frechet reference add mine reference.npz --preprocessing clean --size 50000
    frechet reference add theirs hf://owner/name/bundle.pkl#entry
    """
    if facts["preprocessing"] is not None:
        validate_choice(facts["preprocessing"], PREPROCESSINGS, "preprocessing")
    reference = Reference(
        title=facts["title"] or (redact_url(address) if is_url(address) else Path(address).name),
        url=address,
        n=facts["size"],
        extractor=facts["extractor"],
        preprocessing=facts["preprocessing"],
    )
    with progress_bars(progress_mode) as progress:
        added = references.add_reference(name, reference, progress, force=force)
    _print_fetched(added)


def _format_row(name: str, reference: Reference) -> tuple[str, ...]:
    published = name in REFERENCES and REFERENCES[name].sha256
    sha256 = "published" if published else "recorded" if reference.sha256 else "-"
    n = f"{reference.n:,}" if reference.n else "-"
    return str(reference.dims or "-"), n, reference.preprocessing or "-", sha256, reference.title


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    cells = [[escape_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_fetched(fetched: references.FetchedReference) -> None:
    for note in fetched.notes:
        print(f"warning: {escape_line(note)}", file=sys.stderr)
    click.echo(f"ref:{fetched.name}: {escape_line(str(fetched.path))}\n  sha256  {fetched.reference.sha256}")
    if fetched.reference.fingerprint:
        values = replace(fetched.reference.fingerprint, n=fetched.reference.n)
        click.echo(f"  values  {_format_values(values)}")
    if fetched.reference.note:
        click.echo(f"  note    {escape_line(fetched.reference.note)}")


def _print_identified(file: Path, found: IdentifiedFile) -> None:
    click.echo(f"{escape_line(str(file))}\n  format  {found.format}\n  sha256  {found.sha256}")
    if found.n_images:
        click.echo(f"  images  {found.n_images:,}")
    if found.same_file:
        click.echo(f"  is      {_format_names(found.same_file)}")
    for each in found.statistics:
        click.echo(f"  {escape_line(each.entry)}: {_format_values(each.fingerprint)}")
        if each.same_values:
            click.echo(f"    same values as {_format_names(each.same_values)}")
        if each.equal_sums:
            click.echo(f"    same ‖μ‖² and tr Σ up to rounding as {_format_names(each.equal_sums)}")
    if not found.same_file and not any(each.same_values or each.equal_sums for each in found.statistics):
        click.echo("  not one of the references that were fetched or have a published sha256")


def _format_values(fingerprint: Fingerprint) -> str:
    n = f"{fingerprint.n:,} images" if fingerprint.n else "unknown number of images"
    return (
        f"{n}, {fingerprint.dims:,} dimensions, ‖μ‖² {fingerprint.mean_squared_norm:.6g}, "
        f"tr Σ {fingerprint.covariance_trace:.6g}"
    )


def _format_names(names: Sequence[str]) -> str:
    return ", ".join(f"ref:{name}" for name in names)

"""`frechet weights`: list, fetch, verify."""

from __future__ import annotations

from pathlib import Path

import click

from frechet._internal.download import sha256_of
from frechet.cli.progress import progress_bars
from frechet.errors import WeightsError
from frechet.features.registry import EXTRACTORS, check_choice
from frechet.networks.weights import fetch_weights, find_weights, is_official


@click.group()
def command() -> None:
    """The networks' weights: where they are, and whether they are the published ones."""


@command.command("list", short_help="Say where the weights of every extractor are.")
def list_() -> None:
    """Say of every extractor where its weights are found, and whence they come."""
    for name, extractor in EXTRACTORS.items():
        file = extractor.weights
        try:
            path = find_weights(file)
            state = f"{path} ({'official' if path.is_file() and is_official(path, file) else 'NOT the official file'})"
        except WeightsError:
            state = "not found"
        size = f", {file.size:,} bytes" if file.size else ""
        click.echo(f"{name}\n  file     {file.name}{size}\n  found    {state}")
        click.echo(
            f"  sha256   {file.sha256}\n  source   {(file.urls or (file.install,))[0]}\n  licence  {file.licence}"
        )


@command.command(short_help="Download weights into the cache, verified.")
@click.argument("extractor", default="inception")
def fetch(extractor: str) -> None:
    """Download the weights of EXTRACTOR (inception) into the cache, verified."""
    check_choice(extractor, EXTRACTORS, "extractor")
    with progress_bars() as progress:
        path = fetch_weights(EXTRACTORS[extractor].weights, progress)
    click.echo(path)


@command.command(short_help="Compare a file with the published one.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--extractor", default="inception", show_default=True, metavar="NAME", help="Whose weights these should be."
)
def verify(file: Path | None, extractor: str) -> None:
    """Compare a file (by default the one that would be used) with the published one, byte for byte."""
    check_choice(extractor, EXTRACTORS, "extractor")
    known = EXTRACTORS[extractor].weights
    path = find_weights(known, file)
    if not path.is_file():
        raise WeightsError(f"no file at {path}")
    found = sha256_of(path)
    if not found.startswith(known.sha256):
        raise WeightsError(f"{path} is not the published {known.name}: its sha256 is {found}, expected {known.sha256}")
    click.echo(f"{path}: the published {known.name}")

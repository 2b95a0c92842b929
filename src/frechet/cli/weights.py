"""`frechet weights`: list, fetch, verify."""

from __future__ import annotations

from pathlib import Path

import click

from frechet._internal.download import compute_sha256
from frechet.cli.progress import progress_bars
from frechet.errors import WeightsError
from frechet.features.registry import EXTRACTORS, validate_choice
from frechet.networks.weights import fetch_weights, find_weights, is_official_file


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
            status = (
                f"{path} ({'official' if path.is_file() and is_official_file(path, file) else 'NOT the official file'})"
            )
        except WeightsError:
            status = "not found"
        size = f", {file.size:,} bytes" if file.size else ""
        click.echo(f"{name}\n  file     {file.name}{size}\n  found    {status}")
        click.echo(
            f"  sha256   {file.sha256}\n  source   {(file.urls or (file.install_command,))[0]}\n  licence  {file.licence}"
        )


@command.command(short_help="Download weights into the cache, verified.")
@click.argument("extractor", default="inception")
def fetch(extractor: str) -> None:
    """Download the weights of EXTRACTOR (inception) into the cache, verified."""
    validate_choice(extractor, EXTRACTORS, "extractor")
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
    validate_choice(extractor, EXTRACTORS, "extractor")
    published = EXTRACTORS[extractor].weights
    path = find_weights(published, file)
    if not path.is_file():
        raise WeightsError(f"no file at {path}")
    digest = compute_sha256(path)
    if not digest.startswith(published.sha256):
        raise WeightsError(
            f"{path} is not the published {published.name}: its sha256 is {digest}, expected {published.sha256}"
        )
    click.echo(f"{path}: the published {published.name}")

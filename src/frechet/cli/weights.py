"""`frechet weights`: list, fetch, verify."""

from __future__ import annotations

from pathlib import Path

import click

from frechet._internal.choices import validate_choice
from frechet._internal.download import compute_sha256
from frechet.cli.progress import progress_bars, progress_option
from frechet.errors import RequestError, WeightsError
from frechet.features.registry import EXTRACTORS, Extractor, iter_extractors
from frechet.networks.weights_file import find_weights, is_official_file


@click.group()
def command() -> None:
    """List, download or verify the weights of the extractors."""


@command.command("list", short_help="Show where the weights of every extractor are.")
def list_() -> None:
    """Show the location, checksum, download source and licence of every extractor's weights."""
    for name, extractor in iter_extractors():
        click.echo(name)
        if isinstance(extractor, RequestError):
            click.echo(f"  error    {extractor}")
            continue
        file = extractor.model.weights_file
        if file:
            size = f", {file.size:,} bytes" if file.size else ""
            click.echo(f"  file     {file.name}{size}\n  sha256   {file.sha256}")
        click.echo(
            f"  found    {_format_location(extractor)}\n  source   {extractor.model.weights_source}\n"
            f"  licence  {extractor.licence}"
        )


def _format_location(extractor: Extractor) -> str:
    try:
        path = extractor.model.find_weights()
    except RequestError:
        return "not found"
    file = extractor.model.weights_file
    if file is None:
        return str(path)
    official = path.is_file() and is_official_file(path, file)
    return f"{path} ({'official' if official else 'NOT the official file'})"


@command.command(short_help="Download the weights of an extractor.")
@click.argument("extractor", default="inception")
@progress_option
def fetch(extractor: str, progress_mode: str) -> None:
    """Download the weights of EXTRACTOR (default: inception) into the cache and verify their checksum."""
    validate_choice(extractor, EXTRACTORS, "extractor")
    with progress_bars(progress_mode) as progress:
        path = EXTRACTORS[extractor].model.fetch_weights(progress)
    click.echo(path)


@command.command(short_help="Compare a file with the published one.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--extractor",
    default="inception",
    show_default=True,
    metavar="NAME",
    help="Extractor whose published weights FILE is compared with.",
)
def verify(file: Path | None, extractor: str) -> None:
    """Compare FILE (default: the file that a score would use) with the published weights, byte for byte."""
    validate_choice(extractor, EXTRACTORS, "extractor")
    published = EXTRACTORS[extractor].model.weights_file
    if published is None:
        raise WeightsError(
            f"the weights of {extractor} cannot be verified, because they have no published checksum; to replace them, "
            f"download {EXTRACTORS[extractor].model.weights_source} again"
        )
    path = find_weights(published, file)
    if not path.is_file():
        raise WeightsError(f"{path} is not a file; expected the weights {published.name}")
    digest = compute_sha256(path)
    if not digest.startswith(published.sha256):
        raise WeightsError(
            f"{path} is not the published {published.name}: its sha256 is {digest}, expected {published.sha256}. "
            f"Download it with frechet weights fetch {extractor}"
        )
    click.echo(f"{path}: the published {published.name}")

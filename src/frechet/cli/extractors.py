"""`frechet extractors`: list the table of extractors."""

from __future__ import annotations

import json
from typing import Any

import click

from frechet.errors import RequestError
from frechet.features.registry import Extractor, iter_extractors


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array with one object per extractor.")
def command(as_json: bool) -> None:
    """List the extractors: feature dimensions, backends, weights, paper.

    `--dims` of `frechet score` selects a layer by its number of features; an asterisk marks the default. Nothing is
    downloaded.
    """
    table = list(iter_extractors())
    if as_json:
        click.echo(json.dumps([_describe(name, extractor) for name, extractor in table], indent=2))
        return
    rows = [_format_row(name, extractor) for name, extractor in table if isinstance(extractor, Extractor)]
    header = ("NAME", "DIMS", "BACKENDS", "WEIGHTS", "PAPER")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for name, error in table:
        if isinstance(error, RequestError):
            click.echo(f"{name}: {error}", err=True)


def _format_row(name: str, extractor: Extractor) -> tuple[str, ...]:
    dims = (f"{d}{'*' if layer == extractor.default_layer else ''}" for layer, d in extractor.layers.items())
    path, _ = _find_weights(extractor)
    weights = "found" if path else f"frechet weights fetch {name}"
    file = extractor.model.weights_file
    if not path and file and not file.urls:
        weights = file.source
    return name, " ".join(dims), " ".join(extractor.backends), weights, extractor.paper


def _describe(name: str, extractor: Extractor | RequestError) -> dict[str, Any]:
    if isinstance(extractor, RequestError):
        return {"name": name, "error": str(extractor)}
    path, reason = _find_weights(extractor)
    return {
        "name": name,
        "title": extractor.title,
        "layers": extractor.layers,
        "default_layer": extractor.default_layer,
        "input_size": extractor.input_size,
        "preprocessings": extractor.preprocessings,
        "backends": extractor.backends,
        "weights": {"source": extractor.model.weights_source, "path": path, "unavailable_reason": reason},
        "licence": extractor.licence,
        "paper": extractor.paper,
        "note": extractor.note,
    }


def _find_weights(extractor: Extractor) -> tuple[str | None, str | None]:
    """Return (path, None), or (None, the reason why the weights were not found)."""
    try:
        return str(extractor.model.find_weights()), None
    except RequestError as error:
        return None, str(error)

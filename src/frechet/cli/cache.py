"""`frechet cache`."""

from __future__ import annotations

import time
from typing import Any

import click

from frechet.errors import RequestError
from frechet.execution.chunks import FORMAT_VERSION
from frechet.execution.feature_cache import get_feature_cache_dir, list_cache_entries, prune_cache


@click.group()
def command() -> None:
    """List or delete features that were cached with --cache."""


@command.command("list")
def list_() -> None:
    """List cached features, most recently used first."""
    total = 0
    for entry in list_cache_entries():
        days = (time.time() - entry.last_used) / 86_400
        click.echo(f"{entry.n_bytes / 1e6:8.1f} MB  {days:5.1f} days ago  {_describe_plan(entry.plan)}")
        total += entry.n_bytes
    click.echo(f"{total / 1e6:.1f} MB in {get_feature_cache_dir()}")


def _describe_plan(plan: dict[str, Any]) -> str:
    if plan.get("format") != FORMAT_VERSION:
        return f"format {plan.get('format')}, which this version does not read; delete it with `frechet cache prune`"
    layers = ", ".join(f"{name} {dims}" for name, dims in plan["layers"].items())
    return f"{plan['n_images']:>8,} images  {plan.get('extractor')}, {layers}, {plan.get('preprocessing')}"


@command.command("prune")
@click.option(
    "--days", type=float, default=30.0, show_default=True, help="Delete entries that were not used for this many days."
)
@click.option("--all", "everything", is_flag=True, help="Delete all entries.")
def prune_(days: float, everything: bool) -> None:
    """Delete features that were not used recently.

    Features that a running process uses are kept.
    """
    if not days >= 0:  # NaN too
        raise RequestError(f"--days is {days}; expected a number of at least 0")
    count, n_bytes = prune_cache(0 if everything else days)
    click.echo(f"deleted {count} entries, {n_bytes / 1e6:.1f} MB")

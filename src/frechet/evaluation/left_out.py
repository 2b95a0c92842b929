"""Which metrics `all` leaves out, and how to get them."""

from __future__ import annotations

from collections.abc import Collection

from frechet._internal.words import join_words
from frechet.metrics import METRICS
from frechet.metrics.base import Metric
from frechet.metrics.frechet import compute_rfid


def describe_left_out_metrics(found: Collection[str], *, has_reference: bool) -> str | None:
    """Return one line about the metrics that `all` leaves out, or None if there are none.

    Args:
        found: the metrics that were computed, or reported as unavailable.
        has_reference: whether there is a reference.
    """
    groups: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        need = None if name in found else _name_need(metric, has_reference=has_reference)
        if need is not None:
            groups.setdefault(need, []).append(name)
    if not groups:
        return None
    texts = "; ".join(f"{join_words(names)} ({need})" for need, names in groups.items())
    return f"--metrics all leaves out {texts}. Add those that you need by name, as in --metrics all,cmmd."


def _name_need(metric: Metric, *, has_reference: bool) -> str | None:
    """Return what a metric needs beyond the features of the images, or None if it has a counterpart for other features."""
    if metric.uses_latents:
        return "a generator, in Python"
    if metric.extractor is not None:
        return "another extractor"
    if metric.uses_held_out:
        return "--held-out"
    if metric.load_pair_measure is not None or metric.compute is compute_rfid:
        return "pairs of images"
    if metric.layer != "features":
        return "inception"
    if metric.uses_reference and not has_reference:
        return "a reference"
    return None

"""What a report says about the protocol of its scores."""

from __future__ import annotations

from collections.abc import Iterator

from frechet.results import PublishedValues, Scores


def iter_protocol_facts(scores: Scores) -> Iterator[tuple[str, str]]:
    """Yield (name, text): the protocol, deviations, acceptance, relative distances, published values, what is missing, and the sentence for a paper."""
    protocol = scores.protocol
    if protocol is None:
        return
    yield "protocol", f"{protocol.label}: {protocol.title}"
    for deviation in protocol.deviations:
        yield "deviation", deviation
    for name, (low, high) in protocol.accepted.items():
        verdict = "is" if low <= scores[name].value <= high else "IS NOT"
        yield (
            "accepted",
            f"{scores[name].label} from {low:.10g} to {high:.10g}; {scores[name].value:.10g} {verdict} within this range",
        )
    if protocol.fdr:
        yield "FDr", ", ".join(f"{name} {value:.4g}" for name, value in protocol.fdr.items())
    if protocol.mean_fdr is not None:
        yield (
            f"FDr-{len(protocol.fdr)}",
            f"{protocol.mean_fdr:.4g}, the mean of these distances relative to those of the validation images",
        )
    for published in protocol.published:
        yield "published", format_published(published)
    for missing in protocol.not_computed:
        yield "not computed", missing
    for statement in protocol.unverified:
        yield "not verified", statement
    if protocol.note:
        yield "note", protocol.note
    yield "for a paper", protocol.sentence


def format_published(published: PublishedValues) -> str:
    """Format published values in one line."""
    values = ", ".join(
        f"{name} {value[0]:g} to {value[1]:g}" if isinstance(value, tuple) else f"{name} {value:g}"
        for name, value in published.values.items()
    )
    return f"{published.model}: {values} ({published.source})"

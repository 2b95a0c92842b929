"""`frechet protocols`."""

from __future__ import annotations

import click

from frechet.protocols.protocol import Protocol
from frechet.protocols.registry import PROTOCOLS, find_protocol
from frechet.reports.protocol_facts import format_published
from frechet.results import PublishedValues

_ROUNDINGS = {"truncate": "truncation", "round": "rounding"}


@click.command()
@click.argument("name", required=False)
@click.option("--markdown", is_flag=True, help="Print a Markdown table.")
def command(name: str | None, markdown: bool) -> None:
    """List the protocols, or show one with everything that it requires.

    A protocol sets metrics, extractor, preprocessing, crops and reference as a paper or benchmark does.

    \b
    frechet protocols
    frechet protocols adm-imagenet-256
    frechet score samples.npz --protocol adm-imagenet-256
    """
    if name is not None:
        _print_protocol(*find_protocol(name))
        return
    if markdown:
        print("| protocol | metrics | generated | reference | not computed | published |\n|---|---|---|---|---|---|")
    for key, protocol in PROTOCOLS.items():
        if markdown:
            print(_format_row(key, protocol))
        else:
            print(f"{key:<23} {protocol.title}")


def _print_protocol(name: str, protocol: Protocol) -> None:
    print(f"{name}: {protocol.title}")
    rows = [("source", protocol.source), ("generated", _format_generated(protocol))]
    rows.append(("reference", _format_reference(protocol)))
    rows += [
        (
            "metrics",
            f"{', '.join(each.metrics)} (extractor {each.extractor}, preprocessing {each.preprocessing}, {each.precision})",
        )
        for each in protocol.measurements
    ]
    if protocol.validation_fd:
        relative = ", ".join(f"{name} / {value:g}" for name, value in protocol.validation_fd.items())
        rows.append(("FDr", f"{relative}; FDr-{len(protocol.validation_fd)} is their mean"))
    rows += [
        ("alternative", f"{option.replace(chr(95), chr(32))} {', '.join(values)}")
        for option, values in protocol.alternatives.items()
    ]
    rows += [("accepted", f"{key} from {low:.10g} to {high:.10g}") for key, (low, high) in protocol.accepted.items()]
    rows += [("published", _format_published(protocol, index)) for index in range(len(protocol.published))]
    rows += [("not computed", each) for each in protocol.not_computed]
    rows += [("not verified", each) for each in protocol.unverified]
    rows += [("note", protocol.note)] if protocol.note else []
    for key, text in rows:
        print(f"  {key:<13} {text}")


def _format_row(key: str, protocol: Protocol) -> str:
    published = "; ".join(_format_published(protocol, index) for index in range(len(protocol.published)))
    cells = (
        f"`{key}`",
        ", ".join(f"`{metric}`" for metric in protocol.metrics),
        _format_generated(protocol),
        _format_reference(protocol),
        "; ".join(protocol.not_computed),
        published,
    )
    return f"| {' | '.join(cells)} |"


def _format_generated(protocol: Protocol) -> str:
    size = f", {protocol.generated_size} x {protocol.generated_size} pixels" if protocol.generated_size else ""
    crop = f", cropped with {protocol.generated_crop}, size {protocol.crop_size}" if protocol.generated_crop else ""
    classes = f", {protocol.images_per_class} of each class" if protocol.images_per_class else ""
    order = {"any": "", "unsorted": ", not sorted by class", "paired": ", in the order of the reference"}[
        protocol.order
    ]
    rounding = (
        f", converted to 8 bits by {_ROUNDINGS.get(protocol.rounding, protocol.rounding)}" if protocol.rounding else ""
    )
    return f"{protocol.n_generated:,} images{size}{crop}{classes}{order}{rounding}"


def _format_reference(protocol: Protocol) -> str:
    details = [f"{protocol.n_reference:,} images"] if protocol.n_reference else []
    if protocol.reference_crop:
        details.append(f"cropped with {protocol.reference_crop}, size {protocol.crop_size}")
    details += [f"ref:{each.reference}" for each in protocol.measurements if each.reference]
    title = f"{protocol.reference_title} ({', '.join(details)})" if details else protocol.reference_title
    return title if any(each.reference for each in protocol.measurements) else f"{title}; pass it as REFERENCE"


def _format_published(protocol: Protocol, index: int) -> str:
    row = protocol.published[index]
    return format_published(PublishedValues(model=row.model, values=row.values, source=row.source))

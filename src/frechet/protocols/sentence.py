"""The sentence that describes a result in a paper."""

from __future__ import annotations

from collections.abc import Sequence

from frechet.protocols.protocol import Protocol
from frechet.results import Scores
from frechet.version import __version__


def format_sentence(
    name: str, protocol: Protocol, scores: Scores, deviations: Sequence[str] = (), mean_fdr: float | None = None
) -> str:
    """Return the sentence: values, images, reference, network, preprocessing, protocol and deviations.

    Args:
        name: name of the protocol.
        protocol: its row.
        scores: the result.
        deviations: how the run deviates from the protocol.
        mean_fdr: mean of the distances relative to those of the validation images, or None.
    """
    values = ", ".join(f"{score.label} {score.value:.4g}" for score in scores.values())
    if mean_fdr is not None:
        values = f"FDr-{len(protocol.validation_fd)} {mean_fdr:.4g}, {values}"
    first = next(iter(scores.values()))
    generated = first.provenance["generated"]
    size = f" of {protocol.generated_size} x {protocol.generated_size} pixels" if protocol.generated_size else ""
    crop = f", cropped by {generated['crop']}" if generated["crop"] else ""
    reference = first.provenance["reference"] or {}
    reference_crop = f", cropped by {reference['crop']}" if reference.get("crop") else ""
    networks = ", ".join(
        dict.fromkeys(
            f"{score.provenance['extractor']} with preprocessing {score.provenance['preprocessing']}"
            for score in scores.values()
        )
    )
    relaxed = f", with these deviations: {'; '.join(dict.fromkeys(deviations))}" if deviations else ""
    n = "an unknown number of" if generated["n"] is None else f"{generated['n']:,}"
    return (
        f"{values}: computed with frechet {__version__} from {n} generated images{size}{crop} against {protocol.reference_title}{reference_crop} "
        f"({networks}), following protocol {name}{relaxed}."
    )

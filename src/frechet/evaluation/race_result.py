"""What a race gives back, and its JSON form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from frechet.results import JSON_SCHEMA


@dataclass(frozen=True, kw_only=True)
class RacedModel:
    """One model of a race.

    Attributes:
        name: display name.
        n_images: number of images that were used: those after which the model left the race, or the race ended.
        value: the plain (biased) value.
        corrected_value, standard_error: of the bias-corrected value.
        difference: bias-corrected value minus that of the first model of the ranking, at the last look at which both were
            compared; 0 for this model itself.
        difference_interval: interval of the difference. All intervals, at all looks, hold together with probability 1 - alpha.
        eliminated_by: a better model, or None.
        verdict: "best", "worse than the best", or "not distinguished" if neither is certain.
    """

    name: str
    n_images: int
    value: float
    corrected_value: float
    standard_error: float
    difference: float
    difference_interval: tuple[float, float]
    eliminated_by: str | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class RacePair:
    """The difference between two models.

    Attributes:
        one, other: the models, in the order of the ranking.
        n_images: number of images of each.
        difference: bias-corrected value of `one` minus that of `other`.
        low, high: interval of the difference.
        is_decided: whether `one` is better with the certainty that was asked for.
    """

    one: str
    other: str
    n_images: int
    difference: float
    low: float
    high: float
    is_decided: bool


@dataclass(frozen=True, kw_only=True)
class RaceLook:
    """The state of a race after each model in it had n images.

    Attributes:
        n_images: n.
        values: bias-corrected value by model that was in the race.
        intervals: (low, high) by model.
        left: models that needed no further images from here on.
    """

    n_images: int
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    left: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Race:
    """The order of models, with as few images as it needed.

    Attributes:
        metric, label: key and display name of the metric; lower is better.
        reference: display name of the reference.
        reference_is: what the distances are to: the "fixed" reference, or the distribution that it is a "sample" of.
        find: "best" or "all-pairs".
        alpha: probability that any interval of a difference is wrong at any look.
        max_images: largest number of images per model.
        critical_value: half width of the intervals in standard errors.
        models: the ranking, best first. A model comes after those that are certainly better than it, and models that were not
            distinguished are in the order of their estimates.
        pairs: differences of all pairs of models.
        looks: the course of the race.
        notes: caveats for the reader; one that does not hold for all models starts with the name of its model.
        provenance: everything that is needed to reproduce the values; "models" describes the images of each model.
    """

    metric: str
    label: str
    reference: str
    reference_is: str
    find: str
    alpha: float
    max_images: int
    critical_value: float
    models: tuple[RacedModel, ...]
    pairs: tuple[RacePair, ...]
    looks: tuple[RaceLook, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Race: {self.label} of {len(self.models)} models, winner {self.winner!r}>"

    def __str__(self) -> str:
        rows = [
            (
                model.name,
                f"{model.n_images:,}",
                f"{model.corrected_value:.4g} ± {model.standard_error:.2g}",
                model.verdict,
            )
            for model in self.models
        ]
        columns = list(zip(("model", "images", "bias-corrected", "verdict"), *rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            for line in zip(*columns, strict=True)
        )
        return "\n".join([self.label, *(f"  {line.rstrip()}" for line in lines)])

    @property
    def winner(self) -> str | None:
        """The best model, or None if it is not certain which one is best."""
        return self.models[0].name if self.models[0].verdict == "best" else None

    @property
    def images_used(self) -> int:
        """Number of images of all models."""
        return sum(model.n_images for model in self.models)

    @property
    def images_saved(self) -> int:
        """Number of images fewer than with `max_images` of each model."""
        return self.max_images * len(self.models) - self.images_used

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "schema": JSON_SCHEMA,
            "winner": self.winner,
            "images_used": self.images_used,
            "images_saved": self.images_saved,
            **asdict(self),
        }

    def to_json(self) -> str:
        """Return one JSON object. It never contains NaN or infinity."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

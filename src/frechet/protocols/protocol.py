"""The row type of the table of protocols: how a paper or benchmark computes its numbers, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The metrics of one extractor.

    Attributes:
        metrics: names of metrics, with the preset that the protocol uses ("is@adm").
        preprocessing: name of the preprocessing.
        extractor: name of the extractor; its published weights are required.
        reference: name of the reference statistics (`frechet reference list`); None if the user passes images.
        precision: number format of the network.
    """

    metrics: tuple[str, ...]
    preprocessing: str
    extractor: str = "inception"
    reference: str | None = None
    precision: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Published:
    """Values that were published under a protocol.

    Attributes:
        model: what was measured.
        values: by name of the metric, a value or the range of several.
        source: who published them.
    """

    model: str
    values: Mapping[str, float | Range]
    source: str


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a number is computed. A run that differs in any of these is rejected, or marked as relaxed.

    Attributes:
        title: what is measured, in one line.
        source: where the protocol is defined.
        measurements: metrics, one entry per extractor.
        n_generated: number of generated images.
        generated_size: height and width of the generated images before any crop; None if it may be any.
        reference_title: what the generated images are compared with, as the sentence for a paper names it.
        n_reference: number of reference images, if the user passes them; None if it may be any.
        generated_crop, reference_crop: crops to `crop_size`; None for no crop.
        crop_size: height and width of the crops.
        alternatives: further values that the source allows, by the name of the option ("reference_crop"); of "metrics",
            selections separated by commas.
        order: "any"; "unsorted" if images must not be sorted by class; "paired" if image i of one input belongs to image i of the other.
        images_per_class: number of generated images of each class; None if it may be any.
        per_class: whether the metrics are also reported for each class.
        rounding: how the generator's floating-point images become 8 bits ("truncate"), if the source defines it.
        not_computed: what the protocol lists and frechet does not compute.
        accepted: by metric, the range in which a result is accepted.
        published: published values.
        validation_fd: by metric, the distance of the validation images, by which FDr divides (see `relative_distance`).
        unverified: statements of this row that could not be checked at their source.
        note: what else belongs to the protocol.
    """

    title: str
    source: str
    measurements: tuple[Measurement, ...]
    n_generated: int
    reference_title: str
    generated_size: int | None = None
    n_reference: int | None = None
    generated_crop: str | None = None
    reference_crop: str | None = None
    crop_size: int | None = None
    alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    order: str = "any"
    images_per_class: int | None = None
    per_class: bool = False
    rounding: str | None = None
    not_computed: tuple[str, ...] = ()
    accepted: Mapping[str, Range] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    validation_fd: Mapping[str, float] = field(default_factory=dict)
    unverified: tuple[str, ...] = ()
    note: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics, in order."""
        return tuple(name for measurement in self.measurements for name in measurement.metrics)

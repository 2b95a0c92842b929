"""What identifies features: two statistics are comparable only if they share it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from frechet.errors import MismatchError
from frechet.features.identity_parts import describe_difference


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """How features were computed. `None` means that a file does not record it.

    Attributes:
        extractor: name in the table of extractors, or the qualified name of a function.
        layer: name of the layer, e.g. "2048".
        weights: sha256 (hex) of the tensors of the weights.
        is_official: whether these are the published weights.
        preprocessing: name in the table of preprocessings.
        precision: "float32", "tf32", "bfloat16" or "float16".
    """

    extractor: str | None = None
    layer: str | None = None
    weights: str | None = None
    is_official: bool | None = None
    preprocessing: str | None = None
    precision: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every field is known."""
        return all(value is not None for value in asdict(self).values())

    def fill_missing(self, other: FeatureSpec) -> FeatureSpec:
        """Return this spec with unknown fields taken from `other`."""
        gaps = {name: value for name, value in asdict(other).items() if getattr(self, name) is None}
        return replace(self, **gaps)


def validate_same_spec(generated: FeatureSpec, reference: FeatureSpec) -> None:
    """Raise an error if two specs contradict each other; an unknown field contradicts nothing.

    Raises:
        MismatchError: lists every difference with both values.
    """
    differences = []
    for field in fields(FeatureSpec):
        first, second = getattr(generated, field.name), getattr(reference, field.name)
        if field.name != "is_official" and None not in (first, second) and first != second:
            parts = describe_difference(first, second)
            differences.append(
                f"{field.name} {abbreviate(first)} (generated) and {abbreviate(second)} (reference){parts}"
            )
    if differences:
        raise MismatchError(
            "the generated and reference features were computed differently and cannot be compared: "
            + "; ".join(differences)
            + ". Compute both with the same settings (frechet stats accepts the flags of frechet score, and "
            "frechet.collect its keyword arguments)."
        )


def get_qualified_name(extractor: Any) -> str:
    """Return the name that identifies an extractor in a `FeatureSpec`: a string itself, or module:qualname."""
    if isinstance(extractor, str):
        return extractor
    owner = extractor if hasattr(extractor, "__qualname__") else type(extractor)
    return f"{owner.__module__}:{owner.__qualname__}"


def abbreviate(value: str) -> str:
    """Return a sha256 by its first digits, and anything else unchanged."""
    return f"{value[:12]}..." if len(value) == 64 else value

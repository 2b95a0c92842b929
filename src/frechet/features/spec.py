"""What two statistics must share before they have a distance."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

from frechet.errors import MismatchError


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """How features were made. `None` means that a file does not say.

    Attributes:
        extractor: name in the table of extractors.
        layer: the tap, as text ("2048").
        weights: sha256 of the weights' tensors.
        official: whether those are the published weights.
        convention: name in the table of conventions.
        precision: "float32", "bfloat16" or "float16".
    """

    extractor: str | None = None
    layer: str | None = None
    weights: str | None = None
    is_official: bool | None = None
    preprocessing: str | None = None
    precision: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether everything is said."""
        return all(value is not None for value in asdict(self).values())

    def fill_missing(self, other: FeatureSpec) -> FeatureSpec:
        """This recipe, with what it does not say taken from `other`."""
        gaps = {name: value for name, value in asdict(other).items() if getattr(self, name) is None}
        return replace(self, **gaps)


def validate_same_spec(generated: FeatureSpec, reference: FeatureSpec) -> None:
    """Refuse two recipes that contradict each other; what one does not say contradicts nothing.

    Raises:
        Mismatch: names every difference, with both values.
    """
    differences = []
    for field in fields(FeatureSpec):
        one, other = getattr(generated, field.name), getattr(reference, field.name)
        if field.name != "is_official" and None not in (one, other) and one != other:
            differences.append(f"{field.name} {_abbreviate(one)} (generated) and {_abbreviate(other)} (reference)")
    if differences:
        raise MismatchError(
            "the two sides were made differently and have no distance: "
            + "; ".join(differences)
            + ". Make both with the same settings (frechet stats takes the flags of frechet score, frechet.collect its keywords)."
        )


def _abbreviate(value: str) -> str:
    return f"{value[:12]}..." if len(value) == 64 else value

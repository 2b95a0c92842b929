"""The row type of the table of extractors."""

from __future__ import annotations

from dataclasses import dataclass

from frechet._internal.choices import list_choices
from frechet.errors import RequestError
from frechet.features.models import Model


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A network that turns images into features, as an entry of the table.

    Attributes:
        title: display name in score labels, e.g. "DINOv2-ViT-B/14".
        model: the network, its weights and the backends that can run it.
        layers: layer -> number of features d; all d differ, because users select a layer by its d.
        default_layer: the layer that is used unless the user selects one.
        input_size: height and width of the input in pixels.
        preprocessings: names of the preprocessings it may be used with; the first is the default.
        licence: licence of the weights.
        paper: authors, year and identifier of the paper that introduced the network.
        note: where the features are defined, how they differ from those of the network's authors, and what was not verified.
    """

    title: str
    model: Model
    layers: dict[str, int]
    default_layer: str
    input_size: int
    preprocessings: tuple[str, ...]
    licence: str = "not stated"
    paper: str = "not stated"
    note: str = ""

    def __post_init__(self) -> None:
        if self.default_layer not in self.layers:
            raise RequestError(f"default_layer is {self.default_layer!r}; {list_choices(self.layers)}")
        if len(set(self.layers.values())) != len(self.layers):
            raise RequestError(f"layers is {self.layers}; expected layers with different numbers of features")
        if not self.preprocessings:
            raise RequestError("preprocessings is empty; expected at least one name, of which the first is the default")

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends that can run it."""
        return self.model.backends

    @property
    def dims(self) -> int:
        """Number of features of the default layer."""
        return self.layers[self.default_layer]

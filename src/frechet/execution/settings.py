"""The settings that say how images become features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from frechet._internal.download import ProgressCallback
from frechet.errors import RequestError
from frechet.features.encoders import ENCODERS, get_qualified_name, is_custom_extractor
from frechet.features.extractor import LoadedExtractor
from frechet.features.registry import (
    EXTRACTORS,
    PRECISIONS,
    find_extractor,
    load_extractor,
    resolve_layer,
    validate_choice,
)
from frechet.features.spec import FeatureSpec

ENGINES = ("local", "torchrun", "ray")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How images become features.

    Attributes:
        extractor: name in the tables of extractors and encoders, `onnx:FILE`, `module:attribute`, or a function or
            torch.nn.Module itself: (n, 3, h, w) -> (n, d).
        dims: the layer, by its number of features; None is the extractor's default.
        convention: resize and normalisation; None is the extractor's default.
        weights: a weights file that comes before every other place.
        backend, device: "auto", or a name.
        precision: "float32", "bfloat16" or (torch) "float16".
        batch_size: images that run through the network together; None is what suits the backend.
        workers: decoding threads; None is one for each core.
        num_images: score a seeded subset of this size.
        seed: of the subset and of the sample of rows that statistics keep.
        on_bad_image: "stop" or "skip".
        work_dir: a folder that keeps finished parts, so that the same run continues where it was stopped.
        cache: keep features in the user's cache, where a later run finds them; not with a work_dir.
        engine: who computes: "local", or "ray"; "torchrun" is for the command line.
        ray_address: of a Ray cluster; None starts or finds one as Ray does.
    """

    extractor: Any = "inception"
    dims: int | None = None
    preprocessing: str | None = None
    weights: str | Path | None = None
    backend: str = "auto"
    device: str = "auto"
    precision: str = "float32"
    batch_size: int | None = None
    workers: int | None = None
    num_images: int | None = None
    seed: int = 0
    on_bad_image: str = "stop"
    work_dir: str | Path | None = None
    cache: bool = False
    engine: str = "local"
    ray_address: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("workers", 1), ("num_images", 2), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, (int, np.integer)) or not least <= value < 2**63):
                raise RequestError(f"{name} is {value!r}; expected a whole number of at least {least}")
            if value is not None:
                object.__setattr__(self, name, int(value))  # NumPy's are no JSON
        if self.on_bad_image not in ("stop", "skip"):
            raise RequestError(f"on_bad_image is {self.on_bad_image!r}; expected stop or skip")

        if not is_custom_extractor(self.extractor):
            validate_choice(self.extractor, {**EXTRACTORS, **ENCODERS}, "extractor")
        validate_choice(self.precision, PRECISIONS, "precision")
        validate_choice(self.engine, ENGINES, "engine")

    def explicit_options(self) -> dict[str, str]:
        """What these settings say of features beyond the defaults, by the field of the recipe."""
        explicit = {
            "extractor": None if self.extractor == "inception" else get_qualified_name(self.extractor),
            "layer": None if self.dims is None else self.spec.layer,
            "preprocessing": self.preprocessing,
            "precision": None if self.precision == "float32" else self.precision,
        }
        return {name: value for name, value in explicit.items() if value is not None}

    @property
    def spec(self) -> FeatureSpec:
        """What is known of the features before anything is loaded."""
        row = find_extractor(self.extractor)
        layer = resolve_layer(row, self.dims) if row else str(self.dims) if self.dims else None
        return FeatureSpec(extractor=get_qualified_name(self.extractor), layer=layer)

    def load(self, progress: ProgressCallback | None = None, extra_layers: Sequence[str] = ()) -> LoadedExtractor:
        """The extractor that these settings describe, with further taps; `progress` hears of a download of its weights."""
        return load_extractor(
            self.extractor,
            dims=self.dims,
            preprocessing=self.preprocessing,
            weights=Path(self.weights) if self.weights is not None else None,
            precision=self.precision,
            backend=self.backend,
            device=self.device,
            progress=progress,
            extra_layers=extra_layers,
        )


def validate_keywords(name: str, keywords: Iterable[str], function: Callable[..., Any]) -> None:
    """Refuse keywords that are neither a function's own nor fields of `Settings`, as `name` is known to its caller.

    Raises:
        TypeError: names the keyword that comes nearest, or all of them.
    """
    own = [each.name for each in signature(function).parameters.values() if each.kind is Parameter.KEYWORD_ONLY]
    known = [*own, *(field.name for field in fields(Settings))]
    for keyword in keywords:
        if keyword not in known:
            near = get_close_matches(keyword, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}"
            raise TypeError(f"{name} has no keyword {keyword!r}; {hint}")


class SettingsKwargs(TypedDict, total=False):
    """The fields of `Settings`, as keywords."""

    extractor: Any
    dims: int | None
    preprocessing: str | None
    weights: str | Path | None
    backend: str
    device: str
    precision: str
    batch_size: int | None
    workers: int | None
    num_images: int | None
    seed: int
    on_bad_image: str
    work_dir: str | Path | None
    cache: bool
    engine: str
    ray_address: str | None

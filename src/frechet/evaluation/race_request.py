"""What a race asks for: the models, the reference, and the question."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real

import numpy as np

from frechet._internal.choices import validate_choice
from frechet._internal.download import ProgressCallback
from frechet._internal.fields import name_option, option
from frechet._internal.home import expand_home
from frechet._internal.words import count_of
from frechet.distances.elimination import FIND
from frechet.errors import RequestError
from frechet.evaluation.request import ReferenceLike, ScoreRequest
from frechet.execution.settings import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class RaceRequest(Settings):
    """Models, what to compare them with, and what to find out.

    Attributes:
        models: at least two, by display name: images or features as in `ScoreRequest.generated`.
        reference: the reference of all models.
        metrics: name of a Fréchet distance; None for that of the extractor's features.
        find: "best" for the best model, or "all-pairs" for the order of all of them.
        alpha: probability of at least one wrong interval of a difference over all looks and pairs, between 0 and 1.
        max_images: largest number of images per model; None for the number of images of the smallest source.
        paired_runs: whether image i of all models was generated from the same latent or prompt.
        reference_is: "fixed" for the distances to this reference as it is, "sample" for those to the distribution that it was
            sampled from.
        features: whether inputs other than statistics are (n, d) feature arrays instead of images.
        progress: called with (name of the model, images done, images in all).
    """

    models: Mapping[str, ReferenceLike] = field(kw_only=False)
    reference: ReferenceLike = field(kw_only=False)
    metrics: str | None = option(
        None, "Fréchet distance to compare: fid, fd, fd-dinov2, fd-clip or sfid (default: fid or fd).", metavar="NAME"
    )
    find: str = option(
        "best", "What to determine: the best model (best) or the order of all models (all-pairs).", metavar="NAME"
    )
    alpha: float = option(0.05, "Probability of at least one wrong interval over all looks and pairs.", metavar="A")
    max_images: int | None = option(
        None, "Largest number of images per model (default: that of the smallest model).", metavar="N"
    )
    paired_runs: bool = option(
        False, "Treat image i of all models as generated from the same latent or prompt, and take them in this order."
    )
    reference_is: str = option(
        "fixed",
        "Target of the intervals: the distances to REFERENCE itself (fixed), or to the distribution that it was sampled from (sample).",
        metavar="fixed|sample",
    )
    features: bool = option(False, "Treat .npy/.npz inputs as precomputed (n, d) feature arrays instead of images.")
    progress: ProgressCallback | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.models, Mapping) or not all(isinstance(name, str) and name for name in self.models):
            raise RequestError(
                f'models is a {type(self.models).__name__}; expected a mapping from names to images, such as {{"a": "samples-a/"}}'
            )
        if len(self.models) < 2:
            raise RequestError(
                f"got {count_of(len(self.models), 'model')}; a race needs at least 2. For one model, use frechet score with "
                "--until-half-width (frechet.score with until=)."
            )
        validate_choice(self.find, FIND, name_option("find"))
        if not isinstance(self.alpha, Real) or not 0 < self.alpha < 1:
            raise RequestError(
                f"{name_option('alpha')} is {reprlib.repr(self.alpha)}; expected a probability between 0 and 1, such as 0.05"
            )
        if not isinstance(self.paired_runs, bool):
            raise RequestError(
                f"{name_option('paired_runs')} is {reprlib.repr(self.paired_runs)}; expected True or False"
            )
        if self.max_images is not None and (not isinstance(self.max_images, (int, np.integer)) or self.max_images < 2):
            raise RequestError(
                f"{name_option('max_images')} is {reprlib.repr(self.max_images)}; expected a whole number of at least 2"
            )
        if self.reference_is not in ("fixed", "sample"):
            raise RequestError(
                f"{name_option('reference_is')} is {reprlib.repr(self.reference_is)}; expected 'fixed' or 'sample'"
            )

    def _resolve_names(self) -> None:
        super()._resolve_names()
        object.__setattr__(self, "reference", expand_home(self.reference))
        if isinstance(self.models, Mapping):
            object.__setattr__(self, "models", {name: expand_home(data) for name, data in self.models.items()})

    def to_score_request(self) -> ScoreRequest:
        """Return the request for the score of the first model."""
        settings = {each.name: getattr(self, each.name) for each in fields(Settings)}
        return ScoreRequest(
            next(iter(self.models.values())),
            self.reference,
            metrics=self.metrics,
            reference_is=self.reference_is,
            features=self.features,
            progress=self.progress,
            **settings,
        )

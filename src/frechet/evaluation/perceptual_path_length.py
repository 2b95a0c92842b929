"""Perceptual path length: of a generator, which is asked for images at latents that lie side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from frechet.distances.latent_paths import INTERPOLATIONS, unit
from frechet.errors import RequestError, RunError, SourceError
from frechet.execution.collect import Progress
from frechet.execution.settings import Options, Settings
from frechet.features.encoders import name_of
from frechet.features.extractor import LoadedExtractor
from frechet.features.registry import check_choice, table_row
from frechet.metrics import METRICS
from frechet.preprocessing.registry import checked_range
from frechet.results import Score
from frechet.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Unpack

_AT_ONCE = 32  # pairs of images
_OPTIONS = ("extractor", "dims", "convention", "weights", "backend", "device", "batch_size", "seed")
_EIGHT_BITS = (
    "the generator gave whole numbers of 8 bits: at so short a step their rounding is most of the value; give floating point "
    "in value_range"
)


def perceptual_path_length(
    generator: Callable[[np.ndarray], Any],
    latent_size: int,
    *,
    num_samples: int = 50_000,
    interpolation: str = "lerp",
    epsilon: float = 1e-4,
    distance: Callable[[Any, Any], Any] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Score:
    """How fast a generator's images change along the way between two latents: the mean of distance / epsilon².

    Latents z0 and z1 are drawn from a normal distribution as torch-fidelity draws them; the images at z0 and at the point
    `epsilon` of the way to z1 are compared, and the mean is of the distances between the 1st and the 99th percentile.
    PPL in the literature is by LPIPS, which is left to its libraries (torchmetrics' and lpips'): give it as `distance`.
    Without, the distance is the squared Euclidean one of an extractor's features, and the label says so.

    Args:
        generator: (n, latent_size) float32 -> n images, the same for the same latents: floating point (n, h, w, 3) in
            `value_range`, an array or a tensor; or, with `distance`, whatever that takes.
        latent_size: z.
        num_samples: pairs of latents, at least 2.
        interpolation: "lerp", "slerp_any", or "slerp_unit" (latents of length 1).
        epsilon: the step, in 0..1.
        distance: (images, images) -> (n,) distances that are quadratic in small steps, as LPIPS is.
        value_range: what stands for black and white in images of floating point.
        progress: called with (what, pairs done, pairs in all).
        **options: of `Settings`: extractor, dims, convention, weights, backend, device, batch_size, seed.

    Returns:
        A score, its standard error that of the trimmed mean.

    Raises:
        RequestError: a wish that cannot be met, or images of another kind.
        RunError: a distance is not finite.
    """
    value_range = checked_range(value_range)
    settings = _checked(num_samples, latent_size, epsilon, interpolation, options)
    measure = distance or _FeatureDistance(settings.load(progress), value_range)
    found = []
    for start, stop, ends in _steps(settings, num_samples, latent_size, interpolation, epsilon):
        images = [generator(latents) for latents in ends]
        found.append(_distances(measure(*images), stop - start))
        if progress:
            progress("pairs of images", stop, num_samples)
    return _score(np.concatenate(found), measure, epsilon, interpolation, settings)


def _score(
    distances: np.ndarray, measure: Callable[..., Any], epsilon: float, interpolation: str, settings: Settings
) -> Score:
    row = METRICS["ppl"]
    chosen = {**row.settings, "epsilon": epsilon}
    outcome = row.compute(distances, **chosen)
    assert outcome.standard_error is not None
    half = 1.96 * outcome.standard_error
    return Score(
        metric="ppl",
        label=_label(measure),
        value=outcome.value,
        corrected_value=outcome.value,
        standard_error=outcome.standard_error,
        interval_95=(outcome.value - half, outcome.value + half),
        interval_method="of the trimmed mean, by the Winsorised variance",
        settings={**chosen, "interpolation": interpolation},
        lower_is_better=True,
        compares=False,
        n_generated=len(distances),
        warnings=(_EIGHT_BITS,) if getattr(measure, "eight_bits", False) else (),
        provenance=_provenance(measure, settings),
    )


class _FeatureDistance:
    """The squared distance of features; `eight_bits` remembers that images were rounded."""

    def __init__(self, extractor: LoadedExtractor, value_range: tuple[float, float]) -> None:
        self.extractor, self.value_range = extractor, value_range
        self.eight_bits = False

    def __call__(self, one: Any, other: Any) -> np.ndarray:
        first, second = (self.extractor.runner.map([self._entering(images)]) for images in (one, other))
        return ((np.concatenate([*first]).astype(float) - np.concatenate([*second])) ** 2).sum(axis=1)

    def _entering(self, images: Any) -> np.ndarray:
        """(n, pixels, pixels, 3) float32 in 0..255: by the convention's resize as matrices, nothing rounded."""
        images = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images)
        fit = images.ndim == 4 and images.shape[3] == 3 and images.size
        if not fit or (images.dtype.kind != "f" and images.dtype != np.uint8):
            raise SourceError(
                f"the generator gave {images.dtype} of shape {images.shape}; expected floating point (n, h, w, 3), channels last"
            )
        low, high = self.value_range if images.dtype.kind == "f" else (0, 255)
        slack = 0.01 * (high - low)
        if not (images.min() >= low - slack and images.max() <= high + slack):
            raise SourceError(
                f"the generator's images range from {images.min():.4g} to {images.max():.4g}; expected {low:g} to {high:g}. "
                "Clip them, or say value_range=(black, white), for instance (-1, 1)"
            )
        self.eight_bits = self.eight_bits or images.dtype == np.uint8
        return self._resized((images.astype(float) - low) * (255 / (high - low)))

    def _resized(self, images: np.ndarray) -> np.ndarray:
        convention, pixels = self.extractor.convention, self.extractor.pixels
        scaled = _central_squares(images) if convention.square else images
        rows, columns = (convention.matrix(size, pixels) for size in scaled.shape[1:3])
        scaled = np.einsum("ph,nhwc,qw->npqc", rows, scaled, columns, optimize=True)
        return np.ascontiguousarray(scaled.clip(0, 255) if convention.clipped else scaled, np.float32)


def _central_squares(images: np.ndarray) -> np.ndarray:
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]


def _checked(num_samples: int, latent_size: int, epsilon: float, interpolation: str, options: Options) -> Settings:
    """The settings.

    Raises:
        RequestError: something of another kind or range.
    """
    for name, value, least in (("num_samples", num_samples, 2), ("latent_size", latent_size, 1)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise RequestError(f"{name} is {value!r}; expected a whole number of at least {least}")
    if not 0 < epsilon <= 1:
        raise RequestError(f"epsilon is {epsilon!r}; expected a share of the way, more than 0 and at most 1")
    check_choice(interpolation, INTERPOLATIONS, "interpolation")
    further = [name for name in options if name not in _OPTIONS]
    if further:
        raise RequestError(
            f"a path length has no use for {', '.join(further)}; it takes {', '.join(_OPTIONS)} (features are float32)"
        )
    return Settings(**options)


def _steps(
    settings: Settings, count: int, size: int, interpolation: str, epsilon: float
) -> Iterator[tuple[int, int, Sequence[np.ndarray]]]:
    """(start, stop, latents at both ends of the steps between), drawn by NumPy's old generator as torch-fidelity has it."""
    random = np.random.RandomState(settings.seed % 2**32)
    ends = [random.randn(count, size).astype(np.float32) for _ in range(2)]
    if interpolation == "slerp_unit":
        ends = [unit(end) for end in ends]
    at_once = settings.batch_size or _AT_ONCE
    for start in range(0, count, at_once):
        stop = min(start + at_once, count)
        near, far = (end[start:stop].astype(float) for end in ends)
        moved = INTERPOLATIONS[interpolation](near, far, epsilon)
        yield start, stop, [near.astype(np.float32), moved.astype(np.float32)]


def _distances(found: Any, count: int) -> np.ndarray:
    """(count,) float64.

    Raises:
        RequestError: the distance gave another shape.
        RunError: a distance is not finite.
    """
    values = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found, dtype=float)
    if values.size != count:
        raise RequestError(f"the distance of {count} pairs gave {values.shape}; expected ({count},): one for each pair")
    if not np.isfinite(values).all():
        raise RunError("a distance between two images is NaN or infinite; look at what the generator gives")
    return values.reshape(count)


def _label(measure: Callable[..., Any]) -> str:
    if not isinstance(measure, _FeatureDistance):
        return f"PPL by {name_of(measure)}"
    name = measure.extractor.recipe.extractor
    row = table_row(name)
    return f"PPL by features of {row.title if row else name}, not LPIPS"


def _provenance(measure: Callable[..., Any], settings: Settings) -> dict[str, Any]:
    how: dict[str, Any] = {"distance": name_of(measure)}
    if isinstance(measure, _FeatureDistance):
        used = measure.extractor
        how = {**asdict(used.recipe), "backend": used.backend, "device": used.device}
    return {"frechet": __version__, **how, "seed": settings.seed, "numpy": np.__version__}

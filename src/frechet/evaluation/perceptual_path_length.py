"""Perceptual path length: of a generator, which is asked for images at latents that lie side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from frechet.distances.interval import Z_95
from frechet.distances.latent_paths import INTERPOLATIONS, normalize_latents
from frechet.errors import RequestError, RunError, SourceError
from frechet.execution.collect import ProgressCallback
from frechet.execution.settings import Settings
from frechet.features.encoders import get_qualified_name
from frechet.features.extractor import LoadedExtractor
from frechet.features.registry import find_extractor, validate_choice
from frechet.metrics import METRICS
from frechet.preprocessing.registry import validate_value_range
from frechet.results import Score
from frechet.version import __version__

_DEFAULT_BATCH_SIZE = 32  # pairs of images
_SUPPORTED_OPTIONS = ("extractor", "dims", "preprocessing", "weights", "backend", "device", "batch_size", "seed")
_ROUNDING_WARNING = (
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
    progress: ProgressCallback | None = None,
    **options: Any,
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
    value_range = validate_value_range(value_range)
    settings = _validate_arguments(num_samples, latent_size, epsilon, interpolation, options)
    distance_fn = distance or _FeatureDistance(settings.load(progress), value_range)
    found = []
    for start, stop, ends in _iter_latent_pairs(settings, num_samples, latent_size, interpolation, epsilon):
        images = [generator(latents) for latents in ends]
        found.append(_validate_distances(distance_fn(*images), stop - start))
        if progress:
            progress("pairs of images", stop, num_samples)
    return _make_score(np.concatenate(found), distance_fn, epsilon, interpolation, settings)


def _make_score(
    distances: np.ndarray, distance_fn: Callable[..., Any], epsilon: float, interpolation: str, settings: Settings
) -> Score:
    row = METRICS["ppl"]
    chosen = {**row.settings, "epsilon": epsilon}
    result = row.compute(distances, **chosen)
    assert result.standard_error is not None
    half = Z_95 * result.standard_error
    return Score(
        metric="ppl",
        label=_make_label(distance_fn),
        value=result.value,
        corrected_value=result.value,
        standard_error=result.standard_error,
        interval_95=(result.value - half, result.value + half),
        interval_method="of the trimmed mean, by the Winsorised variance",
        settings={**chosen, "interpolation": interpolation},
        lower_is_better=True,
        uses_reference=False,
        n_generated=len(distances),
        warnings=(_ROUNDING_WARNING,) if getattr(distance_fn, "eight_bits", False) else (),
        provenance=_build_provenance(distance_fn, settings),
    )


class _FeatureDistance:
    """The squared distance of features; `eight_bits` remembers that images were rounded."""

    def __init__(self, extractor: LoadedExtractor, value_range: tuple[float, float]) -> None:
        self.extractor, self.value_range = extractor, value_range
        self.has_uint8_images = False

    def __call__(self, one: Any, other: Any) -> np.ndarray:
        first, second = (self.extractor.runner.map([self._preprocess(images)]) for images in (one, other))
        return ((np.concatenate([*first]).astype(float) - np.concatenate([*second])) ** 2).sum(axis=1)

    def _preprocess(self, images: Any) -> np.ndarray:
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
        self.has_uint8_images = self.has_uint8_images or images.dtype == np.uint8
        return self._resize((images.astype(float) - low) * (255 / (high - low)))

    def _resize(self, images: np.ndarray) -> np.ndarray:
        preprocessing, input_size = self.extractor.preprocessing, self.extractor.input_size
        scaled = _center_crop(images) if preprocessing.has_center_crop else images
        rows, columns = (preprocessing.resize_matrix(size, input_size) for size in scaled.shape[1:3])
        scaled = np.einsum("ph,nhwc,qw->npqc", rows, scaled, columns, optimize=True)
        return np.ascontiguousarray(scaled.clip(0, 255) if preprocessing.is_clipped else scaled, np.float32)


def _center_crop(images: np.ndarray) -> np.ndarray:
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]


def _validate_arguments(
    num_samples: int, latent_size: int, epsilon: float, interpolation: str, options: Mapping[str, Any]
) -> Settings:
    """The settings.

    Raises:
        RequestError: something of another kind or range.
    """
    for name, value, least in (("num_samples", num_samples, 2), ("latent_size", latent_size, 1)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise RequestError(f"{name} is {value!r}; expected a whole number of at least {least}")
    if not 0 < epsilon <= 1:
        raise RequestError(f"epsilon is {epsilon!r}; expected a share of the way, more than 0 and at most 1")
    validate_choice(interpolation, INTERPOLATIONS, "interpolation")
    unsupported = [name for name in options if name not in _SUPPORTED_OPTIONS]
    if unsupported:
        raise RequestError(
            f"a path length has no use for {', '.join(unsupported)}; it takes {', '.join(_SUPPORTED_OPTIONS)} (features are float32)"
        )
    return Settings(**options)


def _iter_latent_pairs(
    settings: Settings, count: int, size: int, interpolation: str, epsilon: float
) -> Iterator[tuple[int, int, Sequence[np.ndarray]]]:
    """(start, stop, latents at both ends of the steps between), drawn by NumPy's old generator as torch-fidelity has it."""
    random = np.random.RandomState(settings.seed % 2**32)
    ends = [random.randn(count, size).astype(np.float32) for _ in range(2)]
    if interpolation == "slerp_unit":
        ends = [normalize_latents(end) for end in ends]
    batch_size = settings.batch_size or _DEFAULT_BATCH_SIZE
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        near, far = (end[start:stop].astype(float) for end in ends)
        moved = INTERPOLATIONS[interpolation](near, far, epsilon)
        yield start, stop, [near.astype(np.float32), moved.astype(np.float32)]


def _validate_distances(found: Any, count: int) -> np.ndarray:
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


def _make_label(distance_fn: Callable[..., Any]) -> str:
    if not isinstance(distance_fn, _FeatureDistance):
        return f"PPL by {get_qualified_name(distance_fn)}"
    name = distance_fn.extractor.spec.extractor
    row = find_extractor(name)
    return f"PPL by features of {row.title if row else name}, not LPIPS"


def _build_provenance(distance_fn: Callable[..., Any], settings: Settings) -> dict[str, Any]:
    how: dict[str, Any] = {"distance": get_qualified_name(distance_fn)}
    if isinstance(distance_fn, _FeatureDistance):
        used = distance_fn.extractor
        how = {**asdict(used.spec), "backend": used.backend, "device": used.device}
    return {"frechet": __version__, **how, "seed": settings.seed, "numpy": np.__version__}

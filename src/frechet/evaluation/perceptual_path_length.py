"""Perceptual path length: how fast the images of a generator change between latents that are close to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from frechet._internal.choices import validate_choice
from frechet.distances.latent_paths import INTERPOLATIONS, normalize_latents
from frechet.distances.sampling_error import Z_95
from frechet.errors import RequestError, RunError, SourceError
from frechet.execution.collect import ProgressCallback
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.features.registry import find_extractor
from frechet.features.spec import get_qualified_name
from frechet.images.sources.memory import copy_item
from frechet.metrics import METRICS
from frechet.preprocessing.value_range import is_out_of_range, make_range_error, validate_value_range
from frechet.results import Score
from frechet.version import __version__

_DEFAULT_BATCH_SIZE = 32  # pairs of images
_SUPPORTED_OPTIONS = ("extractor", "dims", "preprocessing", "weights", "backend", "device", "batch_size", "seed")
_ROUNDING_WARNING = (
    "the generator returned 8-bit integers, whose rounding dominates the value at such a short step; return floating-point images "
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
    """Compute the perceptual path length: how much images change along the path between two latents.

    The value is the mean of distance / epsilon² over pairs of images whose latents are a step of `epsilon` apart. The ends of
    each path are drawn from a standard normal distribution in torch-fidelity's order; distances outside the 1st to 99th
    percentile are left out. Published values use LPIPS as the distance: pass `distance`, for example from torchmetrics or lpips.
    Without it, the distance is the squared Euclidean distance between features of an extractor, and the label says so.

    Args:
        generator: maps (n, latent_size) float32 latents to n images, the same for the same latents: floating point
            (n, h, w, 3) in `value_range`, as an array or tensor; or whatever `distance` takes.
        latent_size: dimension of the latents, at least 1.
        num_samples: number of pairs of latents, at least 2.
        interpolation: "lerp", "slerp_any", or "slerp_unit" (latents of unit length).
        epsilon: length of the step, in (0, 1].
        distance: maps (images, images) to (n,) distances that are quadratic in small steps, as LPIPS is.
        value_range: values of black and white in floating-point images.
        progress: called with (stage, pairs done, pairs in all).
        **options: extractor, dims, preprocessing, weights, backend, device, batch_size and seed of
            `frechet.execution.settings.Settings`.

    Returns:
        The score with the standard error of the trimmed mean.

    Raises:
        RequestError: invalid arguments, or images of the wrong type, shape or range.
        RunError: a distance is not finite.

    Source: Karras et al. 2019, arXiv:1812.04948, equation 2.

    Examples:
        >>> import numpy as np, frechet
        >>> def distance(x, y):
        ...     return ((x - y) ** 2).sum(axis=1)
        >>> score = frechet.perceptual_path_length(lambda z: z, 4, num_samples=2000, distance=distance)
        >>> 7 < float(score) < 9  # E|z1 - z0|² = 2 · 4, with tails left out
        True
    """
    value_range = validate_value_range(value_range)
    settings = _validate_arguments(num_samples, latent_size, epsilon, interpolation, options)
    distance_fn = distance or _FeatureDistance(settings.load(progress), value_range)
    found = []
    for start, stop, ends in _iter_latent_pairs(settings, num_samples, latent_size, interpolation, epsilon):
        images = [copy_item(generator(latents)) for latents in ends]  # the generator may reuse its memory
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
        warnings=(_ROUNDING_WARNING,) if getattr(distance_fn, "has_uint8_images", False) else (),
        provenance=_build_provenance(distance_fn, settings),
    )


class _FeatureDistance:
    """The squared Euclidean distance between features.

    Attributes:
        has_uint8_images: whether the generator returned images that were rounded to 8 bits.
    """

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
                f"the generator returned {images.dtype} of shape {images.shape}; expected floating point (n, h, w, 3), channels last. For "
                "(n, 3, h, w), return x.transpose(0, 2, 3, 1)"
            )
        low, high = self.value_range if images.dtype.kind == "f" else (0, 255)
        lowest, highest = float(images.min()), float(images.max())
        if np.isnan(lowest) or is_out_of_range(lowest, highest, (low, high)):
            raise SourceError(f"the generator's {make_range_error(lowest, highest, (low, high))}")
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
            raise RequestError(f"{name} is {value!r}; expected an integer of at least {least}")
    if not 0 < epsilon <= 1:
        raise RequestError(f"epsilon is {epsilon!r}; expected a fraction of the path, in (0, 1]")
    validate_choice(interpolation, INTERPOLATIONS, "interpolation")
    unsupported = [name for name in options if name not in _SUPPORTED_OPTIONS]
    if unsupported:
        raise RequestError(
            f"perceptual_path_length does not support {', '.join(unsupported)}; choose from {', '.join(_SUPPORTED_OPTIONS)} (features are "
            "computed in float32)"
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
        raise RequestError(
            f"the distance function returned shape {values.shape} for {count} pairs; expected ({count},), one value per pair"
        )
    if not np.isfinite(values).all():
        raise RunError(
            "a distance between two images is NaN or infinite; check that the generator returns finite images in value_range, and that the "
            "distance function is finite for them"
        )
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

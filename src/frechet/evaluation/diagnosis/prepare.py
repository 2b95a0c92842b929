"""From an image to the distinct inputs of the network that its variants need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from frechet._internal.download import ProgressCallback
from frechet.evaluation.diagnosis.axes import Variant
from frechet.evaluation.diagnosis.float_images import ROUNDING_RULES, FloatImages
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.images.checks import compute_digest
from frechet.images.decode import decode
from frechet.images.decode_budget import MAX_PIXELS, DecodeBudget, Reserve
from frechet.images.image import ImageRef, ImageSource
from frechet.preprocessing.crop import Crop
from frechet.preprocessing.registry import PREPROCESSINGS, Preprocessing

InputKey = tuple[str, int, str]  # (network, digest of the pixels before the resize, resize): equal if the inputs are


def load_networks(
    settings: Settings,
    preprocessings: Sequence[str],
    extra_layers: Sequence[str] = (),
    progress: ProgressCallback | None = None,
) -> dict[str, LoadedExtractor]:
    """Load the extractor with every preprocessing; those with the same normalization share one network.

    Args:
        settings: the extractor.
        preprocessings: names of the preprocessings.
        extra_layers: layers to compute besides the main one.
        progress: called while weights are downloaded.
    """
    by_normalization: dict[object, LoadedExtractor] = {}
    found = {}
    for name in preprocessings:
        row = PREPROCESSINGS[name]
        normalization = (row.scale, row.shift)
        if normalization not in by_normalization:
            by_normalization[normalization] = replace(settings, preprocessing=name).load(progress, extra_layers)
        found[name] = replace(by_normalization[normalization], preprocessing=row)
    return found


@dataclass(frozen=True)
class PreparedImage:
    """The distinct inputs of one image.

    Attributes:
        image_ref: the image.
        keys: the input of each variant.
        inputs: (size, size, 3) float32 in 0..255 of each distinct key.
    """

    image_ref: ImageRef
    keys: tuple[InputKey, ...]
    inputs: Mapping[InputKey, np.ndarray]


class Preparation:
    """How the images of one source become inputs; `prepare` may be called from several threads.

    Args:
        source: the images.
        variants: what is done with each image.
        networks: the network of each preprocessing.
        max_pixels: largest number of pixels of an image that can be decoded.
    """

    def __init__(
        self,
        source: ImageSource,
        variants: Sequence[Variant],
        networks: Mapping[str, LoadedExtractor],
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.source, self.variants, self.networks, self.max_pixels = source, variants, networks, max_pixels
        self.budget = DecodeBudget()
        runners = [id(each.runner) for each in networks.values()]
        self.network_names = {name: list(networks)[runners.index(id(each.runner))] for name, each in networks.items()}

    def prepare(self, image_ref: ImageRef) -> PreparedImage:
        """Decode an image once, and return the distinct inputs of its variants.

        Raises:
            ImageDecodeError: the image cannot be decoded.
            RequestError: floating-point values are not in the range.
        """
        with self.budget.admit(self.max_pixels) as reserve:
            return self._make_inputs(image_ref, self._decode(image_ref, reserve))

    def _make_inputs(self, image_ref: ImageRef, decoded: Mapping[str | None, np.ndarray]) -> PreparedImage:
        cropped: dict[tuple[str | None, Crop | None], tuple[int, np.ndarray]] = {}
        inputs: dict[InputKey, np.ndarray] = {}
        keys = []
        for variant in self.variants:
            rgb = decoded[variant.rounding]
            crop = None if _is_kept_whole(rgb, variant.crop) else variant.crop
            if (variant.rounding, crop) not in cropped:
                rgb = crop.apply(rgb) if crop else rgb
                cropped[variant.rounding, crop] = compute_digest(rgb), rgb
            digest, rgb = cropped[variant.rounding, crop]
            key = self._make_key(variant.preprocessing, digest, rgb)
            if key not in inputs:
                inputs[key] = self._resize(variant.preprocessing, rgb)
            keys.append(key)
        return PreparedImage(image_ref, tuple(keys), inputs)

    def _decode(self, image_ref: ImageRef, reserve: Reserve) -> dict[str | None, np.ndarray]:
        """Return the image as 8 bits for each rounding; None is the rounding of images that have 8 bits."""
        if not isinstance(self.source, FloatImages):
            return {None: decode(image_ref, reserve).rgb}
        pixels = np.asarray(image_ref.load())
        roundings = {variant.rounding for variant in self.variants}
        return {name: ROUNDING_RULES[name](pixels, self.source.value_range) for name in roundings if name is not None}

    def _make_key(self, preprocessing: str, digest: int, rgb: np.ndarray) -> InputKey:
        row, size = self.networks[preprocessing].preprocessing, self.networks[preprocessing].input_size
        is_unchanged = rgb.shape[:2] == (size, size) and not row.has_center_crop
        return self.network_names[preprocessing], digest, "" if is_unchanged else _name_resize(row)

    def _resize(self, preprocessing: str, rgb: np.ndarray) -> np.ndarray:
        loaded = self.networks[preprocessing]
        out = np.empty((loaded.input_size, loaded.input_size, 3), np.float32)
        loaded.preprocessing.resize(rgb, out)
        return out


def _is_kept_whole(rgb: np.ndarray, crop: Crop | None) -> bool:
    """Return whether a crop keeps the image as it is: a square of the crop's size."""
    return crop is None or rgb.shape[:2] == (crop.size, crop.size)


def _name_resize(row: Preprocessing) -> str:
    return f"{row.resize.__module__}.{row.resize.__qualname__}"

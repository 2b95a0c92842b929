"""The settings that say how images become features."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np

from frechet._internal.choices import validate_choice
from frechet._internal.download import ProgressCallback
from frechet._internal.fields import name_option, option
from frechet._internal.home import expand_home
from frechet.errors import RequestError
from frechet.features.extractor import PREPROCESS_ON, LoadedExtractor
from frechet.features.loading import load_extractor
from frechet.features.registry import (
    DEFAULT_EXTRACTOR,
    EXTRACTORS,
    PRECISIONS,
    DefaultName,
    find_extractor,
    is_custom_extractor,
    resolve_layer,
)
from frechet.features.spec import FeatureSpec, get_qualified_name
from frechet.images.decode_budget import LARGEST_MAX_PIXELS, MAX_PIXELS
from frechet.images.decode_processes import WORKERS_KINDS
from frechet.preprocessing.aliases import resolve_alias
from frechet.preprocessing.crop import CROPS, Crop
from frechet.preprocessing.registry import PREPROCESSINGS

ENGINES = ("auto", "local", "torchrun", "ray")
ExtractorLike: TypeAlias = str | Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How images become features. Every field is a keyword of `frechet.score` and an option of the commands that read images.

    Attributes:
        extractor: name in the table of extractors, ``onnx:FILE``, ``module:attribute``, or a function or
            torch.nn.Module: (n, 3, h, w) -> (n, d). The default is that of a statistics file among the inputs, otherwise inception.
        dims: the layer, by its number of features; None for that of a statistics file of the same extractor among the inputs, otherwise the
            extractor's default.
        preprocessing: crop, resize and normalisation by name; None for the extractor's default.
        crop: crop of each image before it is resized: "adm", "torchvision", "long-edge" or "stretch"; None for no crop.
        size: height and width of the crop in pixels.
        weights: a weights file that takes precedence over FRECHET_WEIGHTS and the caches.
        backend: "auto", "openvino", "torch" or "jax".
        device: "auto", "cpu", "cuda", "cuda:N", "mps" or, with jax, "tpu".
        precision: "float32", "bfloat16", "float16" (with torch or jax) or "tf32" (with torch on CUDA).
        preprocess_on: where images are resized: "host", "device", or "auto" for accelerators and images up to 1024 x 1024.
        batch_size: images that pass through the network together; None for a size that suits the backend.
        workers: number of decoding threads; None for one per core.
        workers_kind: "threads"; "processes", of which up to 8 decode image files of at most 256 x 256 pixels; or "auto" for processes after
            4,096 images in a row of at most 64 x 64 pixels, or 16,384 of at most 256 x 256. Processes only decode images that a device
            resizes, and only on Linux.
        num_images: size of the random subset of each input that is used, chosen by `seed`; None for all images.
        cache: whether features are cached, so that later runs on the same images or on subsets of them skip the network. Ignored
            with `work_dir`.
        seed: random seed of subsets, of the sample of features that statistics keep, and of metrics that draw at random.
        on_bad_image: "stop" or "skip".
        max_pixels: largest number of pixels of an image; a larger one counts as an image that cannot be decoded.
        work_dir: checkpoint directory; the same call resumes from it.
        engine: "auto", "local", "torchrun" or "ray"; "auto" is "torchrun" for a command started by torchrun, else "local".
        rendezvous_timeout: seconds that a command started by torchrun waits for the other ranks.
        ray_address: address of a Ray cluster, passed to `ray.init`.
    """

    KEYWORDS_OF_OTHER_TOOLS: ClassVar[Mapping[str, str]] = {
        "convention": "preprocessing",
        "cuda": "device",
        "feature_extractor": "extractor",
        "gpu": "device",
        "mode": "preprocessing",
        "model": "extractor",
        "model_name": "extractor",
        "num_gen": "num_images",
        "num_workers": "workers",
        "rng_seed": "seed",
    }

    CROP_FIELDS: ClassVar[tuple[str, ...]] = ("crop",)

    extractor: ExtractorLike = option(
        DEFAULT_EXTRACTOR,
        "Feature extractor: inception, efficientnet-lite0, another name listed by `frechet extractors`, onnx:FILE or module:attribute. "
        "If an input is a statistics file, its extractor and layer are the default.",
        metavar="NAME",
    )
    dims: int | None = option(
        None,
        "Layer of inception by its number of features: 64, 192, 768, 2048, 2023 (sFID) or 1008 (class scores). The default is that of a "
        "statistics file among the inputs, otherwise 2048.",
        metavar="N",
    )
    preprocessing: str | None = option(
        None,
        "Resize and normalisation, e.g. pytorch-fid, tensorflow, clean or torchmetrics. The default is that of a statistics file "
        "among the inputs, otherwise that of the extractor (pytorch-fid for inception).",
        metavar="NAME",
    )
    crop: str | None = option(
        None, "Crop images to --size before they are resized: adm, torchvision, long-edge or stretch.", metavar="NAME"
    )
    size: int | None = option(None, "Height and width of the crop in pixels.", metavar="S")
    weights: str | Path | None = option(
        None, "Path to the weights file (overrides FRECHET_WEIGHTS and the caches).", metavar="FILE"
    )
    backend: str = option("auto", "Library that runs the network: auto, openvino, torch or jax.", metavar="NAME")
    device: str = option("auto", "Device that runs the network: auto, cpu, cuda, cuda:N, mps or tpu.", metavar="NAME")
    precision: str = option(
        "float32",
        "Number format of the network: float32, bfloat16 (if the device supports it), float16 (torch and jax backends) or tf32 (torch on CUDA).",
        metavar="NAME",
    )
    preprocess_on: str = option(
        "auto",
        "Where to resize images: host or device (auto: the device if it is an accelerator).",
        metavar="auto|host|device",
    )
    batch_size: int | None = option(None, "Batch size for the feature extractor.", metavar="N")
    workers: int | None = option(None, "Number of decoding threads (default: one per core).", metavar="N")
    workers_kind: str = option(
        "auto",
        "Where small image files are decoded if a device resizes them: threads or processes (auto: processes after thousands of small images).",
        metavar="auto|threads|processes",
    )
    num_images: int | None = option(None, "Use a random subset of N images from each input (see --seed).", metavar="N")
    cache: bool = option(
        False,
        "Cache extracted features so that later runs on the same images, or on a subset of them, skip the network.",
    )
    seed: int = option(
        0,
        "Random seed for image subsets, the stored feature sample, and metrics that draw at random.",
        metavar="N",
    )
    on_bad_image: str = option(
        "stop",
        "What to do if an image cannot be decoded: stop the run, or skip the image and list it.",
        metavar="stop|skip",
    )
    max_pixels: int = option(
        MAX_PIXELS,
        "Largest number of pixels per image; larger images count as bad images (see --on-bad-image).",
        metavar="N",
    )
    work_dir: str | Path | None = option(None, "Checkpoint directory; rerun the same command to resume.", metavar="DIR")
    engine: str = option("auto", "Execution engine: auto, local, torchrun or ray.", metavar="NAME")
    rendezvous_timeout: int = option(
        600, "Seconds to wait for the other ranks of torchrun before giving up.", metavar="SECONDS"
    )
    ray_address: str | None = option(None, "Ray cluster address, passed to ray.init().", metavar="ADDRESS")

    def __post_init__(self) -> None:
        self._resolve_names()
        for name, least in (
            ("batch_size", 1),
            ("workers", 1),
            ("num_images", 2),
            ("seed", 0),
            ("size", 1),
            ("max_pixels", 1),
            ("rendezvous_timeout", 1),
        ):
            value = getattr(self, name)
            if (value is not None or name == "seed") and (
                not isinstance(value, (int, np.integer)) or not least <= value < 2**63
            ):
                raise RequestError(f"{name_option(name)} is {value!r}; expected a whole number of at least {least}")
            if value is not None:
                object.__setattr__(self, name, int(value))  # NumPy's are no JSON
        if not 1 <= self.max_pixels <= LARGEST_MAX_PIXELS:
            raise RequestError(
                f"{name_option('max_pixels')} is {self.max_pixels!r}; expected a whole number from 1 to {LARGEST_MAX_PIXELS}, the size of the "
                "largest images that Pillow reads"
            )
        for name in ("backend", "device"):
            if not isinstance(getattr(self, name), str):
                raise RequestError(f"{name_option(name)} is {getattr(self, name)!r}; expected a name, or 'auto'")
        if self.on_bad_image not in ("stop", "skip"):
            raise RequestError(f"{name_option('on_bad_image')} is {self.on_bad_image!r}; expected stop or skip")

        if not is_custom_extractor(self.extractor):
            validate_choice(str(self.extractor), EXTRACTORS, "extractor")
        validate_choice(self.precision, PRECISIONS, "precision")
        validate_choice(self.engine, ENGINES, "engine")
        validate_choice(self.preprocess_on, PREPROCESS_ON, name_option("preprocess_on"))
        validate_choice(self.workers_kind, WORKERS_KINDS, name_option("workers_kind"))
        if self.workers_kind == "processes" and not sys.platform.startswith("linux"):
            raise RequestError(
                f"{name_option('workers_kind')} is processes, which need memory that only Linux shares; expected auto or threads on {sys.platform}"
            )
        self._validate_crops()

    def _resolve_names(self) -> None:
        """Replace ~ in paths, and another tool's name of a preprocessing."""
        object.__setattr__(self, "preprocessing", resolve_alias(self.preprocessing))
        if self.preprocessing is not None:
            validate_choice(self.preprocessing, PREPROCESSINGS, "preprocessing")
        for name in ("weights", "work_dir"):
            object.__setattr__(self, name, expand_home(getattr(self, name)))

    def _validate_crops(self) -> None:
        for name in self.CROP_FIELDS:
            crop = getattr(self, name)
            if crop is None:
                continue
            validate_choice(crop, CROPS, "crop" if name == "crop" else name_option(name))
            if self.size is None:
                raise RequestError(
                    f"{name_option(name)} is {crop}, but its size is missing; pass --size (size=), e.g. 256"
                )

    def _require_crop_for_size(self) -> None:
        if self.size is not None and all(getattr(self, name) is None for name in self.CROP_FIELDS):
            raise RequestError(
                f"{name_option('size')} is {self.size}, but no crop is given; pass --crop (crop=), or leave it out"
            )

    @property
    def image_crop(self) -> Crop | None:
        """The crop of each image, or None."""
        return Crop(self.crop, self.size) if self.crop is not None and self.size is not None else None

    @property
    def settings(self) -> Settings:
        """These settings without the fields that a subclass adds: plain values that can be sent to another process."""
        return Settings(**{each.name: getattr(self, each.name) for each in fields(Settings)})

    def explicit_options(self) -> dict[str, str]:
        """Return the fields of `FeatureSpec` that these settings set to another value than the default."""
        explicit = {
            "extractor": None if isinstance(self.extractor, DefaultName) else get_qualified_name(self.extractor),
            "layer": None if self.dims is None else self.spec.layer,
            "preprocessing": self.preprocessing,
            "precision": None if self.precision == "float32" else self.precision,
        }
        return {name: value for name, value in explicit.items() if value is not None}

    @property
    def spec(self) -> FeatureSpec:
        """What identifies the features as far as it is known before the extractor is loaded."""
        row = find_extractor(self.extractor)
        layer = resolve_layer(row, self.dims) if row else str(self.dims) if self.dims else None
        return FeatureSpec(extractor=get_qualified_name(self.extractor), layer=layer)

    def load(self, progress: ProgressCallback | None = None, extra_layers: Sequence[str] = ()) -> LoadedExtractor:
        """Load the extractor that these settings describe.

        Args:
            progress: called while weights are downloaded.
            extra_layers: further layers of the network to return features of.
        """
        loaded = load_extractor(
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
        return loaded.place_preprocessing(self.preprocess_on)

"""One pass over images for many variants: each image is decoded once, and the network runs once per distinct input."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from frechet._internal.cpu import process_cpu_count
from frechet._internal.download import ProgressCallback
from frechet._internal.words import count_of
from frechet.errors import ImageDecodeError, NonFiniteFeaturesError, TooFewImagesError
from frechet.evaluation.diagnosis.axes import Variant
from frechet.evaluation.diagnosis.prepare import InputKey, Preparation, PreparedImage
from frechet.evaluation.diagnosis.rows import VariantRows
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.images.image import ImageRef, ImageSource

_BLOCK_INPUTS = 256  # inputs that pass through a network together


@dataclass(frozen=True)
class VariantFeatures:
    """The features of one source for every variant.

    Attributes:
        rows: (n, d) float32 by group of variants with equal inputs.
        groups: the group of each variant.
        n_inputs: number of inputs that the network was run on.
        skipped_images: images that could not be decoded, with the reason.
    """

    rows: Sequence[np.ndarray]
    groups: Mapping[Variant, int]
    n_inputs: int
    skipped_images: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of images, without those that could not be decoded."""
        return len(self.rows[0])


def extract_variants(
    source: ImageSource,
    source_indices: Sequence[int],
    variants: Sequence[Variant],
    networks: Mapping[str, LoadedExtractor],
    settings: Settings,
    *,
    layer: str = "features",
    progress: ProgressCallback | None = None,
    stage: str = "images",
) -> VariantFeatures:
    """Compute the features of every variant of some images of a source.

    Args:
        source: the images.
        source_indices: positions of the images in the source, ascending.
        variants: how images become inputs.
        networks: the network of each preprocessing.
        settings: batch size, threads, and what happens to images that cannot be decoded.
        layer: the layer whose features are kept.
        progress: called with `stage`, and the numbers of images processed and in total.
        stage: name of the source for `progress`.

    Raises:
        TooFewImagesError: fewer than two images could be decoded.
        ImageDecodeError: an image cannot be decoded, and `settings.on_bad_image` is "stop".
        NonFiniteFeaturesError: the network returned NaN or infinity.
    """
    preparation = Preparation(source, variants, networks, settings.max_pixels)
    columns = next(iter(networks.values())).layer_slices[layer]
    rows = VariantRows(len(variants), len(source_indices), columns.stop - columns.start)
    skipped: list[str] = []
    prepared = _prepare_ahead(preparation, source.iter_images(source_indices), settings, skipped)
    with closing(prepared):
        for block in _split_blocks(prepared):
            features = _run_networks(block, networks, settings.batch_size)
            for image, found in zip(block, features, strict=True):
                _require_finite(image, found)
                rows.append(image.keys, {key: row[columns] for key, row in found.items()})
            if progress:
                progress(stage, rows.n + len(skipped), len(source_indices))
    if rows.n < 2:
        raise TooFewImagesError(f"{source.label} has {count_of(rows.n, 'usable image')}; expected at least 2")
    groups = rows.get_groups()
    return VariantFeatures(
        rows=[rows.get_rows(group) for group in range(max(groups) + 1)],
        groups=dict(zip(variants, groups, strict=True)),
        n_inputs=rows.n_inputs,
        skipped_images=tuple(skipped),
    )


def _prepare_ahead(
    preparation: Preparation, image_refs: Iterable[ImageRef], settings: Settings, skipped: list[str]
) -> Generator[PreparedImage, None, None]:
    """Yield prepared images in order, while threads prepare the following ones; list those that cannot be decoded."""
    workers = settings.workers or process_cpu_count()
    depth = 2 * workers + _BLOCK_INPUTS // len(preparation.variants)
    waiting: deque[Future[PreparedImage]] = deque()

    def collect() -> Iterator[PreparedImage]:
        try:
            yield waiting.popleft().result()
        except ImageDecodeError as error:
            if settings.on_bad_image == "stop":
                raise
            skipped.append(str(error))

    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for image_ref in image_refs:
            waiting.append(pool.submit(preparation.prepare, image_ref))
            if len(waiting) > depth:
                yield from collect()
        while waiting:
            yield from collect()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _split_blocks(prepared: Iterable[PreparedImage]) -> Iterator[list[PreparedImage]]:
    """Yield consecutive images that together have about `_BLOCK_INPUTS` inputs."""
    block: list[PreparedImage] = []
    n_inputs = 0
    for image in prepared:
        block.append(image)
        n_inputs += len(image.inputs)
        if n_inputs >= _BLOCK_INPUTS:
            yield block
            block, n_inputs = [], 0
    if block:
        yield block


def _run_networks(
    block: Sequence[PreparedImage], networks: Mapping[str, LoadedExtractor], batch_size: int | None
) -> list[dict[InputKey, np.ndarray]]:
    """Return the features of each distinct input of each image; inputs of all images share the batches of a network."""
    found: list[dict[InputKey, np.ndarray]] = [{} for _ in block]
    for name, loaded in networks.items():
        places = [(index, key) for index, image in enumerate(block) for key in image.inputs if key[0] == name]
        if not places:
            continue  # another preprocessing has the same network
        size = batch_size or loaded.runner.batch_size
        batches = (
            np.stack([block[index].inputs[key] for index, key in places[start : start + size]])
            for start in range(0, len(places), size)
        )
        rows = (row for features in loaded.runner.map(batches) for row in features)
        for (index, key), row in zip(places, rows, strict=True):
            found[index][key] = row
    return found


def _require_finite(image: PreparedImage, features: Mapping[InputKey, np.ndarray]) -> None:
    if not all(np.isfinite(row).all() for row in features.values()):
        raise NonFiniteFeaturesError(
            f"the network returned NaN or infinity for {image.image_ref.label}; expected finite features. Check the weights, "
            "or use --precision float32 (precision=) if half precision overflowed."
        )

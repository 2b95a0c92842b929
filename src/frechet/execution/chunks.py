"""Chunks of consecutive images: which images belong to each, what is kept of them, and their format in files and messages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy_format

from frechet._internal.array_headers import retry_parsing
from frechet.execution.settings import Settings
from frechet.execution.subset import select_indices
from frechet.features.extractor import LoadedExtractor
from frechet.features.identity_parts import describe_difference
from frechet.images.checks import IMAGE_CHECK
from frechet.images.decode_budget import MAX_PIXELS
from frechet.images.image import ImageRef, ImageSource
from frechet.images.loader import CHUNK_SIZE
from frechet.statistics.accumulator import LayerSummary
from frechet.statistics.group_moments import GroupMoments

FORMAT_VERSION = 2  # of plan.json and of chunk files
LARGE_CHUNK_SIZE = 64 * CHUNK_SIZE
LARGE_CHUNK_THRESHOLD = 10**6  # number of images above which chunks are large, unless all features are needed


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Everything that a run keeps of consecutive images: the unit of work, transport and resuming.

    All chunks merge in the same way, whatever their size, because only `LayerSummary` decides how a layer is represented.
    A chunk of up to 256 images holds the features of all of them: at d = 2048 these are 2 MB, whereas a scatter matrix
    would be 34 MB. A large chunk is the merge of 64 such chunks. It holds the moments of each group and the rows that the
    sample of the whole run may need: 168 MB at d = 2048, and ten matrix additions instead of 64 products for the process
    that merges chunks. Metrics that need the features of every image are therefore computed from small chunks.

    Attributes:
        indices: (k,) int64 index of each image among those to score, without images that could not be decoded.
        layers: the features of these images by layer; "features" is the main one.
        image_checks: (k,) of dtype `frechet.images.checks.IMAGE_CHECK`.
        notes: (note, label of the image) pairs, e.g. about an alpha channel that was removed.
        skipped_images: label and reason of each image that could not be decoded.
    """

    indices: np.ndarray
    layers: Mapping[str, LayerSummary]
    image_checks: np.ndarray
    notes: list[tuple[str, str]]
    skipped_images: list[str]

    @property
    def n_images(self) -> int:
        """Number of images, including those that could not be decoded."""
        return len(self.indices) + len(self.skipped_images)

    def shift(self, offset: int) -> Chunk:
        """Return the chunk with its images numbered from `offset` instead of 0."""
        layers = {name: replace(each, indices=each.indices + offset) for name, each in self.layers.items()}
        return replace(self, indices=self.indices + offset, layers=layers)


@dataclass(frozen=True)
class Units:
    """The sampling units that dependent images belong to.

    Attributes:
        kind: "pair", "cluster", "stratum", or "image" for images that are independent even if their contents are equal.
        numbers: number of the unit of each image, in the order of the source; None for the image's index among those to score.
    """

    kind: str
    numbers: np.ndarray | None = None


@dataclass(frozen=True)
class Partition:
    """The images of a source that are scored, split into chunks of consecutive images.

    Attributes:
        source: the source of the images.
        source_indices: position in the source of each image to score, ascending.
        chunk_size: number of images per chunk, a multiple of 256.
        units: sampling units of the images; None if each is one by itself.
        ranks: (first, end) of the images in the seeded order, for a part of a growing sample; None for other partitions.
    """

    source: ImageSource
    source_indices: Sequence[int]
    chunk_size: int = CHUNK_SIZE
    units: Units | None = None
    ranks: tuple[int, int] | None = None

    @classmethod
    def from_source(
        cls, source: ImageSource, settings: Settings, *, keep_all: bool = False, units: Units | None = None
    ) -> Partition:
        """Split all images of a source, or the seeded subset that the settings describe.

        Args:
            source: the source of the images.
            settings: their `num_images` and `seed` determine the subset.
            keep_all: use small chunks, because the features of every image are needed.
            units: sampling units of the images. They also need small chunks, because only this process knows them.

        Raises:
            TooFewImagesError: the source has fewer than `num_images` images.
        """
        source_indices = select_indices(source, settings)
        is_large = len(source_indices) > LARGE_CHUNK_THRESHOLD and not keep_all and units is None
        return cls(source, source_indices, LARGE_CHUNK_SIZE if is_large else CHUNK_SIZE, units)

    def __len__(self) -> int:
        """Return the number of chunks."""
        return -(-len(self.source_indices) // self.chunk_size)

    def chunk_range(self, chunk_index: int) -> range:
        """Return the indices, among the images to score, of a chunk's images."""
        return range(chunk_index * self.chunk_size, min((chunk_index + 1) * self.chunk_size, len(self.source_indices)))

    def iter_images(self, chunk_indices: Sequence[int]) -> Iterator[ImageRef]:
        """Yield the images of these chunks (ascending), each with its index among the images to score."""
        indices = self._image_indices(chunk_indices)
        if isinstance(indices, range):
            source_indices = self.source_indices[indices.start : indices.stop]
        else:
            source_indices = [self.source_indices[index] for index in indices]
        image_refs = self.source.iter_images(source_indices)
        for index, image_ref in zip(indices, image_refs, strict=True):
            yield replace(image_ref, index=index)

    def _image_indices(self, chunk_indices: Sequence[int]) -> range | list[int]:
        """Return the indices of the images in these chunks, as a range (which needs no memory) if chunks are consecutive."""
        if chunk_indices and chunk_indices[-1] - chunk_indices[0] == len(chunk_indices) - 1:
            return range(self.chunk_range(chunk_indices[0]).start, self.chunk_range(chunk_indices[-1]).stop)
        return [index for chunk_index in chunk_indices for index in self.chunk_range(chunk_index)]

    def get_units(self, chunk: Chunk) -> np.ndarray:
        """Return the number of the sampling unit of each image in a chunk; images of the same content are one unit."""
        if self.units is None:
            return chunk.image_checks["digest"]
        if self.units.numbers is None:
            return chunk.indices
        return self.units.numbers[[self.source_indices[index] for index in chunk.indices]]

    def get_labels(self, indices: Sequence[int]) -> list[str]:
        """Return the labels of images, given their indices among the images to score."""
        return [self.source.get_label(self.source_indices[index]) for index in indices]


def make_plan(partition: Partition, settings: Settings, extractor: LoadedExtractor) -> dict[str, Any]:
    """Describe everything that determines the contents of a run's chunks, as plain JSON.

    Batch size, threads and engine are not part of it. A key that is absent means None, so that a later version can add
    keys for optional contents and still continue the runs that do not have them.

    Raises:
        RequestError: the source cannot identify its images, e.g. because they are in memory.
    """
    fingerprints = partition.source.fingerprints(partition.source_indices)
    holds_all_rows = partition.chunk_size == CHUNK_SIZE
    plan = {
        "format": FORMAT_VERSION,
        "chunk_size": partition.chunk_size,
        "sample_seed": None if holds_all_rows else settings.seed,
        **{key: value for key, value in asdict(extractor.spec).items() if key != "is_official"},
        "layers": {name: columns.stop - columns.start for name, columns in extractor.layer_slices.items()},
        "backend": extractor.backend,
        "max_device_pixels": extractor.max_device_pixels or None,
        "on_bad_image": settings.on_bad_image,
        "crop": str(settings.image_crop) if settings.image_crop else None,
        "max_pixels": settings.max_pixels if settings.max_pixels != MAX_PIXELS else None,
        "n_source": len(partition.source),
        "n_images": len(partition.source_indices),
        "subset_seed": settings.seed if settings.num_images is not None or partition.ranks is not None else None,
        "image_fingerprints": [
            _digest_fingerprints(islice(fingerprints, len(partition.chunk_range(chunk_index))))
            for chunk_index in range(len(partition))
        ],
    }
    return {key: value for key, value in plan.items() if value is not None}


def compute_plan_digest(plan: Mapping[str, Any]) -> str:
    """Return the hex sha256 of a plan."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def describe_differences(recorded: dict[str, Any], current: dict[str, Any], partition: Partition) -> list[str]:
    """Describe how two plans differ, one message per key."""
    differences = [
        f"{key} was {recorded.get(key)} and is {current.get(key)}"
        + (describe_difference(recorded.get(key), current.get(key)) if key == "weights" else "")
        for key in {**current, **recorded}
        if key != "image_fingerprints" and recorded.get(key) != current.get(key)
    ]
    if not differences and recorded["image_fingerprints"] != current["image_fingerprints"]:
        pairs = enumerate(zip(recorded["image_fingerprints"], current["image_fingerprints"], strict=True))
        images = partition.chunk_range(next(chunk_index for chunk_index, (before, after) in pairs if before != after))
        first, last = partition.get_labels([images[0], images[-1]])
        differences.append(f"images differ in name, size or time; the first of them is one of {first} ... {last}")
    return differences


def _digest_fingerprints(fingerprints: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for fingerprint in fingerprints:
        digest.update(f"{fingerprint}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def write_chunk(chunk: Chunk, stream: IO[bytes], identity: str = "") -> None:
    """Write a chunk as an .npz archive without Python objects, with a checksum as the archive's comment.

    Arrays: `indices`; `image_checks`; `metadata` (JSON as uint8: names of layers, notes, skipped images); and for layer 0,
    1, ...: `layer0_indices`, `layer0_rows` and, unless they follow from the rows, the moments of each group of images:
    `layer0_group_n`, `layer0_group_mean` and `layer0_group_scatter` (see `GroupMoments`).
    Readers ignore arrays that they do not know, so optional ones can be added, e.g. labels or thumbnails.
    The checksum covers `identity`, the plan and the position that the chunk belongs to.
    """
    metadata = {"layers": list(chunk.layers), "notes": chunk.notes, "skipped_images": chunk.skipped_images}
    arrays = {
        "metadata": np.frombuffer(json.dumps(metadata).encode(), np.uint8),
        "indices": chunk.indices,
        "image_checks": chunk.image_checks,
    }
    for position, layer in enumerate(chunk.layers.values()):
        arrays |= {f"layer{position}_indices": layer.indices, f"layer{position}_rows": layer.rows}
        if groups := layer.stored_groups:
            arrays |= {
                f"layer{position}_group_n": groups.n,
                f"layer{position}_group_mean": groups.mean,
                f"layer{position}_group_scatter": groups.scatter,
            }
    with ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy_format.write_array(member, array, allow_pickle=False)
        archive.comment = _compute_checksum(archive, identity)


def read_chunk(stream: IO[bytes], identity: str = "") -> Chunk:
    """Read a chunk that `write_chunk` wrote with the same identity, and verify its checksum.

    Raises:
        Exception: the bytes are damaged or truncated; zipfile, json and NumPy raise errors of many types.
    """
    with ZipFile(stream) as archive:
        if archive.comment != _compute_checksum(archive, identity):
            raise ValueError("the checksum of the chunk does not match")
        arrays = {name.removesuffix(".npy"): _read_array(archive, name) for name in archive.namelist()}
    if arrays["image_checks"].dtype != IMAGE_CHECK:
        raise ValueError("the chunk was written by a version that checked images for other properties")
    metadata = json.loads(arrays["metadata"].tobytes())
    return Chunk(
        indices=arrays["indices"],
        layers={name: _read_layer(arrays, position) for position, name in enumerate(metadata["layers"])},
        image_checks=arrays["image_checks"],
        notes=[(note, label) for note, label in metadata["notes"]],
        skipped_images=metadata["skipped_images"],
    )


def _read_array(archive: ZipFile, name: str) -> np.ndarray:
    def read() -> np.ndarray:
        with archive.open(name) as member:
            return npy_format.read_array(member, allow_pickle=False)

    return retry_parsing(read)


def _read_layer(arrays: Mapping[str, np.ndarray], position: int) -> LayerSummary:
    indices, rows, n, mean, scatter = (
        arrays.get(f"layer{position}_{name}") for name in ("indices", "rows", "group_n", "group_mean", "group_scatter")
    )
    assert indices is not None
    assert rows is not None
    groups = None if n is None or mean is None or scatter is None else GroupMoments(n, mean, scatter)
    return LayerSummary(indices=indices, rows=rows, stored_groups=groups)


def _compute_checksum(archive: ZipFile, identity: str) -> bytes:
    """Digest the archive's directory and what the chunk belongs to.

    The directory holds the CRC-32 of each array, which zipfile verifies when the array is read. Together they detect any
    damage, and a large chunk is not read twice.
    """
    directory = [(member.filename, member.file_size, member.CRC) for member in archive.infolist()]
    return hashlib.sha256(json.dumps([identity, directory]).encode()).hexdigest().encode()

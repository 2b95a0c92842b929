"""A run as a list of parts: which images each has, what could change its numbers, and its bytes on a disk or a wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import IO, Any, TypeAlias

import numpy as np

from frechet.errors import TooFewImagesError
from frechet.execution.settings import Settings
from frechet.features.extract import FeatureChunk
from frechet.features.extractor import LoadedExtractor
from frechet.images.image import ImageRef, ImageSource
from frechet.images.loader import CHUNK_SIZE
from frechet.statistics.accumulator import LayerSummary
from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import priorities

FORMAT_VERSION = 1  # of a part's bytes and of the fingerprint
LARGE_CHUNK_SIZE = 64 * CHUNK_SIZE  # images of a large part
LARGE_CHUNK_THRESHOLD = (
    10**6
)  # images beyond which a side is cut into large parts, unless the features of all are wanted
_CONTENT_KEY = "what a part holds"  # a key of the fingerprint, left out where it is features


@dataclass
class SummaryChunk:
    """What stands for up to 16,384 consecutive images: a statistic of each layer in place of features.

    Attributes:
        layers: what stands for the features, by layer.
        places, signs, remarks, bad: as those of a `Part`.
    """

    indices: np.ndarray
    layers: Mapping[str, LayerSummary]
    image_checks: np.ndarray
    notes: list[tuple[str, str]]
    skipped_images: list[str]


Chunk: TypeAlias = FeatureChunk | SummaryChunk


@dataclass(frozen=True)
class Partition:
    """What is scored of a source, cut into parts of consecutive images.

    Attributes:
        source: where the images are.
        chosen: their places in it, ascending.
        size: images in a part: 256, or a multiple of it where the parts are large ones.
    """

    source: ImageSource
    source_indices: Sequence[int]
    chunk_size: int = CHUNK_SIZE

    @classmethod
    def from_source(cls, source: ImageSource, settings: Settings, *, keep_all: bool = False) -> Partition:
        """All of a source, or a seeded subset; in large parts if there are many and not every image's features are kept."""
        source_indices = _select_indices(source, settings)
        return cls(
            source,
            source_indices,
            LARGE_CHUNK_SIZE if len(source_indices) > LARGE_CHUNK_THRESHOLD and not keep_all else CHUNK_SIZE,
        )

    @property
    def has_large_chunks(self) -> bool:
        """Whether its parts are large ones."""
        return self.chunk_size > CHUNK_SIZE

    def __len__(self) -> int:
        """How many parts."""
        return -(-len(self.source_indices) // self.chunk_size)

    def chunk_range(self, chunk_index: int) -> range:
        """Indices, among the chosen, of a part's images."""
        return range(chunk_index * self.chunk_size, min((chunk_index + 1) * self.chunk_size, len(self.source_indices)))

    def iter_images(self, chunk_indices: Sequence[int]) -> Iterator[ImageRef]:
        """The pictures of these parts (ascending numbers), each with its index among all that are chosen."""
        indices = self._indices(chunk_indices)
        if isinstance(indices, range):
            source_indices = self.source_indices[indices.start : indices.stop]
        else:
            source_indices = [self.source_indices[index] for index in indices]
        found = self.source.iter_images(source_indices)
        for index, image_ref in zip(indices, found, strict=True):
            yield replace(image_ref, index=index)

    def _indices(self, chunk_indices: Sequence[int]) -> range | list[int]:
        """Indices of the images in these parts; no list of them where one part follows the other."""
        if chunk_indices and chunk_indices[-1] - chunk_indices[0] == len(chunk_indices) - 1:
            return range(self.chunk_range(chunk_indices[0]).start, self.chunk_range(chunk_indices[-1]).stop)
        return [index for chunk_index in chunk_indices for index in self.chunk_range(chunk_index)]

    def get_labels(self, indices: Sequence[int]) -> list[str]:
        """What the user knows these of the chosen images by."""
        return [self.source.get_label(self.source_indices[index]) for index in indices]


def _select_indices(source: ImageSource, settings: Settings) -> Sequence[int]:
    """All places, or a seeded subset: that of a smaller size is part of that of a larger one."""
    wanted = settings.num_images
    if wanted is None:
        return range(len(source))
    if wanted > len(source):
        raise TooFewImagesError(
            f"{source.label} holds {len(source)} images; {wanted} were asked for (--num-images, num_images=)"
        )
    ranks = priorities(np.arange(len(source)), settings.seed)
    return [int(source_index) for source_index in np.sort(np.argsort(ranks, kind="stable")[:wanted])]


def compute_fingerprint(partition: Partition, settings: Settings, extractor: LoadedExtractor) -> dict[str, Any]:
    """Everything that can change a part's numbers: images, settings, format; not batches, threads, or who computes.

    Raises:
        RequestError: the source's images cannot be told from others of tomorrow.
    """
    fingerprints = partition.source.fingerprints(partition.source_indices)
    return {
        "format": FORMAT_VERSION,
        "images in a part": partition.chunk_size,
        **({_CONTENT_KEY: f"statistics and rows of seed {settings.seed}"} if partition.has_large_chunks else {}),
        **{key: value for key, value in asdict(extractor.spec).items() if key != "is_official"},
        "features": ", ".join(f"{name} {layer.stop - layer.start}" for name, layer in extractor.layer_slices.items()),
        "backend": extractor.backend,
        "on_bad_image": settings.on_bad_image,
        "images in the source": len(partition.source),
        "images to score": len(partition.source_indices),
        "seed of the subset": settings.seed if settings.num_images is not None else None,
        "parts": [
            _digest_fingerprints(islice(fingerprints, len(partition.chunk_range(chunk_index))))
            for chunk_index in range(len(partition))
        ],
    }


def describe_differences(previous: dict[str, Any], current: dict[str, Any], partition: Partition) -> list[str]:
    """What differs between two fingerprints, in words."""
    previous, current = ({_CONTENT_KEY: "features", **plan} for plan in (previous, current))
    found = [
        f"{key} was {previous.get(key)}, and is {current.get(key)}"
        for key in current
        if key != "parts" and previous.get(key) != current[key]
    ]
    if not found and previous.get("parts") != current["parts"]:
        pairs = enumerate(zip(previous["parts"], current["parts"], strict=True))
        images = partition.chunk_range(next(chunk_index for chunk_index, (before, after) in pairs if before != after))
        first, last = partition.get_labels([images[0], images[-1]])
        found.append(f"images differ in name, size or time, the first of them among {first} ... {last}")
    return found


def write_chunk(chunk: Chunk, stream: IO[bytes]) -> None:
    """A part's bytes: an .npz without any Python object in it."""
    words, arrays = [chunk.notes, chunk.skipped_images], {"places": chunk.indices, "signs": chunk.image_checks}
    if isinstance(chunk, FeatureChunk):
        arrays["features"] = chunk.features
    else:
        words.append(list(chunk.layers))
        for layer_index, (moments, indices, rows) in enumerate(chunk.layers.values()):
            found = {"mean": moments.mean, "scatter": moments.scatter, "places": indices, "rows": rows}
            arrays |= {f"{name} {layer_index}": array for name, array in found.items()}
    arrays["words"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
    np.savez(stream, allow_pickle=False, **arrays)


def read_chunk(stream: IO[bytes]) -> Chunk:
    """The part of such bytes.

    Raises:
        Exception: they are damaged or cut short; zipfile's and NumPy's errors have many names.
    """
    with np.load(stream, allow_pickle=False) as arrays:
        notes, skipped_images, *layers = json.loads(arrays["words"].tobytes())
        common = {
            "indices": arrays["places"],
            "image_checks": arrays["signs"],
            "notes": [(note, name) for note, name in notes],
            "skipped_images": skipped_images,
        }
        if not layers:
            return FeatureChunk(features=arrays["features"], **common)
        n = len(common["indices"])
        return SummaryChunk(
            layers={name: _read_summary(arrays, n, layer_index) for layer_index, name in enumerate(layers[0])}, **common
        )


def _read_summary(arrays: Mapping[str, np.ndarray], n: int, layer_index: int) -> LayerSummary:
    mean, scatter, indices, rows = (arrays[f"{name} {layer_index}"] for name in ("mean", "scatter", "places", "rows"))
    return LayerSummary(RunningMoments(n, mean, scatter), indices, rows)


def _digest_fingerprints(fingerprints: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for image_fingerprint in fingerprints:
        digest.update(f"{image_fingerprint}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]

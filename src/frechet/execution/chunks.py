"""A run as a list of parts: which images each has, what could change its numbers, and its bytes on a disk or a wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import IO, Any, TypeAlias

import numpy as np

from frechet.errors import TooFewImages
from frechet.execution.settings import Settings
from frechet.features.extract import Part
from frechet.features.extractor import LoadedExtractor
from frechet.images.image import Picture, Source
from frechet.images.loader import PART
from frechet.statistics.accumulator import Summary
from frechet.statistics.moments import Gaussian
from frechet.statistics.row_sample import priorities

FORMAT = 1  # of a part's bytes and of the fingerprint
LARGE = 64 * PART  # images of a large part
MANY = 10**6  # images beyond which a side is cut into large parts, unless the features of all are wanted
_HELD = "what a part holds"  # a key of the fingerprint, left out where it is features


@dataclass
class LargePart:
    """What stands for up to 16,384 consecutive images: a statistic of each layer in place of features.

    Attributes:
        layers: what stands for the features, by layer.
        places, signs, remarks, bad: as those of a `Part`.
    """

    places: np.ndarray
    layers: Mapping[str, Summary]
    signs: np.ndarray
    remarks: list[tuple[str, str]]
    bad: list[str]


AnyPart: TypeAlias = Part | LargePart


@dataclass(frozen=True)
class Cut:
    """What is scored of a source, cut into parts of consecutive images.

    Attributes:
        source: where the images are.
        chosen: their places in it, ascending.
        size: images in a part: 256, or a multiple of it where the parts are large ones.
    """

    source: Source
    chosen: Sequence[int]
    size: int = PART

    @classmethod
    def of(cls, source: Source, settings: Settings, *, keep_all: bool = False) -> Cut:
        """All of a source, or a seeded subset; in large parts if there are many and not every image's features are kept."""
        chosen = _chosen(source, settings)
        return cls(source, chosen, LARGE if len(chosen) > MANY and not keep_all else PART)

    @property
    def large(self) -> bool:
        """Whether its parts are large ones."""
        return self.size > PART

    def __len__(self) -> int:
        """How many parts."""
        return -(-len(self.chosen) // self.size)

    def images_in(self, number: int) -> range:
        """Indices, among the chosen, of a part's images."""
        return range(number * self.size, min((number + 1) * self.size, len(self.chosen)))

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        """The pictures of these parts (ascending numbers), each with its index among all that are chosen."""
        indices = self._indices(numbers)
        if isinstance(indices, range):
            places = self.chosen[indices.start : indices.stop]
        else:
            places = [self.chosen[index] for index in indices]
        found = self.source.pictures(places)
        for index, picture in zip(indices, found, strict=True):
            yield replace(picture, index=index)

    def _indices(self, numbers: Sequence[int]) -> range | list[int]:
        """Indices of the images in these parts; no list of them where one part follows the other."""
        if numbers and numbers[-1] - numbers[0] == len(numbers) - 1:
            return range(self.images_in(numbers[0]).start, self.images_in(numbers[-1]).stop)
        return [index for number in numbers for index in self.images_in(number)]

    def names(self, indices: Sequence[int]) -> list[str]:
        """What the user knows these of the chosen images by."""
        return [self.source.name_of(self.chosen[index]) for index in indices]


def _chosen(source: Source, settings: Settings) -> Sequence[int]:
    """All places, or a seeded subset: that of a smaller size is part of that of a larger one."""
    wanted = settings.num_images
    if wanted is None:
        return range(len(source))
    if wanted > len(source):
        raise TooFewImages(
            f"{source.name} holds {len(source)} images; {wanted} were asked for (--num-images, num_images=)"
        )
    ranks = priorities(np.arange(len(source)), settings.seed)
    return [int(place) for place in np.sort(np.argsort(ranks, kind="stable")[:wanted])]


def fingerprint(cut: Cut, settings: Settings, extractor: LoadedExtractor) -> dict[str, Any]:
    """Everything that can change a part's numbers: images, settings, format; not batches, threads, or who computes.

    Raises:
        RequestError: the source's images cannot be told from others of tomorrow.
    """
    marks = cut.source.marks(cut.chosen)
    return {
        "format": FORMAT,
        "images in a part": cut.size,
        **({_HELD: f"statistics and rows of seed {settings.seed}"} if cut.large else {}),
        **{key: value for key, value in asdict(extractor.recipe).items() if key != "official"},
        "features": ", ".join(f"{name} {layer.stop - layer.start}" for name, layer in extractor.columns.items()),
        "backend": extractor.backend,
        "on_bad_image": settings.on_bad_image,
        "images in the source": len(cut.source),
        "images to score": len(cut.chosen),
        "seed of the subset": settings.seed if settings.num_images is not None else None,
        "parts": [_digest(islice(marks, len(cut.images_in(number)))) for number in range(len(cut))],
    }


def differences(then: dict[str, Any], now: dict[str, Any], cut: Cut) -> list[str]:
    """What differs between two fingerprints, in words."""
    then, now = ({_HELD: "features", **plan} for plan in (then, now))
    found = [
        f"{key} was {then.get(key)}, and is {now.get(key)}"
        for key in now
        if key != "parts" and then.get(key) != now[key]
    ]
    if not found and then.get("parts") != now["parts"]:
        pairs = enumerate(zip(then["parts"], now["parts"], strict=True))
        images = cut.images_in(next(number for number, (before, after) in pairs if before != after))
        first, last = cut.names([images[0], images[-1]])
        found.append(f"images differ in name, size or time, the first of them among {first} ... {last}")
    return found


def write_part(part: AnyPart, stream: IO[bytes]) -> None:
    """A part's bytes: an .npz without any Python object in it."""
    words, arrays = [part.remarks, part.bad], {"places": part.places, "signs": part.signs}
    if isinstance(part, Part):
        arrays["features"] = part.features
    else:
        words.append(list(part.layers))
        for number, (gaussian, places, rows) in enumerate(part.layers.values()):
            found = {"mean": gaussian.mean, "scatter": gaussian.scatter, "places": places, "rows": rows}
            arrays |= {f"{name} {number}": array for name, array in found.items()}
    arrays["words"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
    np.savez(stream, allow_pickle=False, **arrays)


def read_part(stream: IO[bytes]) -> AnyPart:
    """The part of such bytes.

    Raises:
        Exception: they are damaged or cut short; zipfile's and NumPy's errors have many names.
    """
    with np.load(stream, allow_pickle=False) as arrays:
        remarks, bad, *layers = json.loads(arrays["words"].tobytes())
        common = {
            "places": arrays["places"],
            "signs": arrays["signs"],
            "remarks": [(remark, name) for remark, name in remarks],
            "bad": bad,
        }
        if not layers:
            return Part(features=arrays["features"], **common)
        n = len(common["places"])
        return LargePart(layers={name: _summary(arrays, n, number) for number, name in enumerate(layers[0])}, **common)


def _summary(arrays: Mapping[str, np.ndarray], n: int, number: int) -> Summary:
    mean, scatter, places, rows = (arrays[f"{name} {number}"] for name in ("mean", "scatter", "places", "rows"))
    return Summary(Gaussian(n, mean, scatter), places, rows)


def _digest(marks: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for mark in marks:
        digest.update(f"{mark}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]

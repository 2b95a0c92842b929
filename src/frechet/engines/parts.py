"""A run as a list of parts: which images each has, what could change its numbers, and its bytes on a disk or a wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import IO, Any

import numpy as np

from frechet.errors import TooFewImages
from frechet.features.extract import Part
from frechet.features.loaded import LoadedExtractor
from frechet.features.settings import Settings
from frechet.images.loader import PART
from frechet.images.pictures import Picture, Source
from frechet.statistics.samples import priorities

FORMAT = 1  # of a part's bytes and of the fingerprint


@dataclass(frozen=True)
class Cut:
    """What is scored of a source, cut into parts of 256 consecutive images.

    Attributes:
        source: where the images are.
        chosen: their places in it, ascending.
    """

    source: Source
    chosen: Sequence[int]

    @classmethod
    def of(cls, source: Source, settings: Settings) -> Cut:
        """All of a source, or a seeded subset: that of a smaller size is part of that of a larger one."""
        wanted = settings.num_images
        if wanted is None:
            return cls(source, range(len(source)))
        if wanted > len(source):
            raise TooFewImages(f"{source.name} holds {len(source)} images; {wanted} were asked for (--num-images)")
        ranks = priorities(np.arange(len(source)), settings.seed)
        return cls(source, [int(place) for place in np.sort(np.argsort(ranks, kind="stable")[:wanted])])

    def __len__(self) -> int:
        """How many parts."""
        return -(-len(self.chosen) // PART)

    def images_in(self, number: int) -> range:
        """Indices, among the chosen, of a part's images."""
        return range(number * PART, min((number + 1) * PART, len(self.chosen)))

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        """The pictures of these parts (ascending numbers), each with its index among all that are chosen."""
        indices = [index for number in numbers for index in self.images_in(number)]
        found = self.source.pictures([self.chosen[index] for index in indices])
        for index, picture in zip(indices, found, strict=True):
            yield replace(picture, index=index)

    def names(self, indices: Sequence[int]) -> list[str]:
        """What the user knows these of the chosen images by."""
        return [self.source.name_of(self.chosen[index]) for index in indices]


def fingerprint(cut: Cut, settings: Settings, extractor: LoadedExtractor) -> dict[str, Any]:
    """Everything that can change a part's numbers: images, settings, format; not batches, threads, or who computes.

    Raises:
        RequestError: the source's images cannot be told from others of tomorrow.
    """
    marks = cut.source.marks(cut.chosen)
    return {
        "format": FORMAT,
        "images in a part": PART,
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


def write_part(part: Part, stream: IO[bytes]) -> None:
    """A part's bytes: an .npz without any Python object in it."""
    words = json.dumps([part.remarks, part.bad]).encode()
    np.savez(
        stream,
        places=part.places,
        features=part.features,
        signs=part.signs,
        words=np.frombuffer(words, np.uint8),
        allow_pickle=False,
    )


def read_part(stream: IO[bytes]) -> Part:
    """The part of such bytes.

    Raises:
        Exception: they are damaged or cut short; zipfile's and NumPy's errors have many names.
    """
    with np.load(stream, allow_pickle=False) as arrays:
        remarks, bad = json.loads(arrays["words"].tobytes())
        return Part(
            places=arrays["places"],
            features=arrays["features"],
            signs=arrays["signs"],
            remarks=[(remark, name) for remark, name in remarks],
            bad=bad,
        )


def _digest(marks: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for mark in marks:
        digest.update(f"{mark}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]

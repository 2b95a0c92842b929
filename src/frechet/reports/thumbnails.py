"""Small pictures that lie inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from frechet.errors import BadImage
from frechet.execution.chunks import Cut
from frechet.execution.settings import Settings
from frechet.images.decode import decode
from frechet.images.image import Source
from frechet.images.sources.memory import LoaderSource
from frechet.statistics.feature_statistics import Statistics

PIXELS = 160  # of the longer side
_TINY = 64  # up to which pixels are kept as they are


@dataclass(frozen=True)
class Thumbnail:
    """A picture and what the user knows it by; `data` is a data: URL, or None where the picture is not at hand."""

    name: str
    data: str | None = None


@dataclass
class Album:
    """Pictures of one side, by the row of its statistics.

    Args:
        statistics: the side's.
        source: its images, where they are at hand.
        settings: with which they were scored.
    """

    statistics: Statistics
    source: Source | None
    settings: Settings
    _shown: dict[int, Thumbnail] = field(default_factory=dict)

    def __getitem__(self, row: int) -> Thumbnail:
        return self._shown[row]

    def fill(self, rows: Iterable[int]) -> None:
        """Decode the pictures of these rows."""
        places = self.statistics.places
        if places is None:
            return
        wanted = {int(places[row]): row for row in rows if row not in self._shown}
        names = self.statistics.names
        for place, row in wanted.items():
            self._shown[row] = Thumbnail(self._short(names[row]) if names else f"image {place}")
        if self.source is None or not wanted or (isinstance(self.source, LoaderSource) and not self.source.repeatable):
            return
        chosen = Cut.of(self.source, self.settings).chosen
        ordered = sorted(wanted)
        for place, picture in zip(ordered, self.source.pictures([chosen[place] for place in ordered]), strict=True):
            try:
                self._shown[wanted[place]] = Thumbnail(self._short(picture.name), _data(decode(picture).rgb))
            except BadImage:  # it was readable a moment ago; the page shows its name
                continue

    def _short(self, name: str) -> str:
        """The name within the source."""
        return name.removeprefix(self.statistics.source).lstrip("/\\:") or name


def _data(rgb: np.ndarray) -> str:
    image = Image.fromarray(rgb)
    image.thumbnail((PIXELS, PIXELS), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    kind = "png" if max(image.size) <= _TINY else "jpeg"
    image.save(out, kind, **_OPTIONS[kind])
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"


_OPTIONS: Mapping[str, Mapping[str, int | bool]] = {"png": {"optimize": True}, "jpeg": {"quality": 80}}

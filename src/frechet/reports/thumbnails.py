"""Small pictures that lie inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from frechet.errors import ImageDecodeError
from frechet.execution.chunks import Partition
from frechet.execution.settings import Settings
from frechet.images.decode import decode
from frechet.images.image import ImageSource
from frechet.images.sources.memory import DataLoaderSource
from frechet.statistics.feature_statistics import FeatureStatistics

MAX_SIDE = 160  # of the longer side
_MAX_PNG_SIDE = 64  # up to which pixels are kept as they are


@dataclass(frozen=True)
class Thumbnail:
    """A picture and what the user knows it by; `data` is a data: URL, or None where the picture is not at hand."""

    label: str
    data: str | None = None


@dataclass
class ThumbnailCache:
    """Pictures of one side, by the row of its statistics.

    Args:
        statistics: the side's.
        source: its images, where they are at hand.
        settings: with which they were scored.
    """

    statistics: FeatureStatistics
    source: ImageSource | None
    settings: Settings
    _thumbnails: dict[int, Thumbnail] = field(default_factory=dict)

    def __getitem__(self, row: int) -> Thumbnail:
        return self._thumbnails[row]

    def load(self, rows: Iterable[int]) -> None:
        """Decode the pictures of these rows."""
        indices = self.statistics.indices
        if indices is None:
            return
        row_of_index = {int(indices[row]): row for row in rows if row not in self._thumbnails}
        labels = self.statistics.labels
        for index, row in row_of_index.items():
            self._thumbnails[row] = Thumbnail(self._short_label(labels[row]) if labels else f"image {index}")
        if (
            self.source is None
            or not row_of_index
            or (isinstance(self.source, DataLoaderSource) and not self.source.is_repeatable)
        ):
            return
        source_indices = Partition.from_source(self.source, self.settings).source_indices
        ordered = sorted(row_of_index)
        for index, image_ref in zip(
            ordered, self.source.iter_images([source_indices[index] for index in ordered]), strict=True
        ):
            try:
                self._thumbnails[row_of_index[index]] = Thumbnail(
                    self._short_label(image_ref.label), _encode_data_url(decode(image_ref).rgb)
                )
            except ImageDecodeError:  # it was readable a moment ago; the page shows its name
                continue

    def _short_label(self, label: str) -> str:
        """The name within the source."""
        return label.removeprefix(self.statistics.label).lstrip("/\\:") or label


def _encode_data_url(rgb: np.ndarray) -> str:
    image = Image.fromarray(rgb)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    kind = "png" if max(image.size) <= _MAX_PNG_SIDE else "jpeg"
    image.save(out, kind, **_ENCODER_OPTIONS[kind])
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"


_ENCODER_OPTIONS: Mapping[str, Mapping[str, int | bool]] = {"png": {"optimize": True}, "jpeg": {"quality": 80}}

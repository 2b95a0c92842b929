"""Thumbnails embedded in a report page."""

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

MAX_SIZE = 160  # pixels of the longer side
_MAX_PNG_SIZE = 64  # thumbnails up to this size are stored without loss


@dataclass(frozen=True)
class Thumbnail:
    """An image's label within its source, and its pixels as a data: URL (None if the image is not available)."""

    label: str
    data_url: str | None = None


@dataclass
class ThumbnailCache:
    """Thumbnails of the generated or of the reference images, by row of `FeatureStatistics.rows`.

    Args:
        statistics: statistics of the images.
        source: the images, or None if only statistics are available.
        settings: the settings that the images were scored with.
    """

    statistics: FeatureStatistics
    source: ImageSource | None
    settings: Settings
    _thumbnails: dict[int, Thumbnail] = field(default_factory=dict)

    def __getitem__(self, row: int) -> Thumbnail:
        return self._thumbnails[row]

    def load(self, rows: Iterable[int]) -> None:
        """Decode the images of these rows. Images that are not available keep a thumbnail without pixels."""
        indices = self.statistics.indices
        if indices is None:
            return
        row_of_index = {int(indices[row]): row for row in rows if row not in self._thumbnails}
        labels = self.statistics.labels
        for index, row in row_of_index.items():
            self._thumbnails[row] = Thumbnail(self._short_label(labels[row]) if labels else f"image {index}")
        is_repeatable = not isinstance(self.source, DataLoaderSource) or self.source.is_repeatable
        if self.source is not None and row_of_index and is_repeatable:
            self._decode(self.source, row_of_index)

    def _decode(self, source: ImageSource, row_of_index: Mapping[int, int]) -> None:
        source_indices = Partition.from_source(source, self.settings).source_indices
        ordered = sorted(row_of_index)
        image_refs = source.iter_images([source_indices[index] for index in ordered])
        for index, image_ref in zip(ordered, image_refs, strict=True):
            label = self._short_label(image_ref.label)
            try:
                data_url = _encode_data_url(decode(image_ref).rgb)
            except ImageDecodeError:  # the file changed after it was scored; the page shows its label
                continue
            self._thumbnails[row_of_index[index]] = Thumbnail(label, data_url)

    def _short_label(self, label: str) -> str:
        """Return the label without the label of the source."""
        return label.removeprefix(self.statistics.label).lstrip("/\\:") or label


def _encode_data_url(rgb: np.ndarray) -> str:
    image = Image.fromarray(rgb)
    image.thumbnail((MAX_SIZE, MAX_SIZE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    kind = "png" if max(image.size) <= _MAX_PNG_SIZE else "jpeg"
    image.save(out, kind, **_ENCODER_OPTIONS[kind])
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"


_ENCODER_OPTIONS: Mapping[str, Mapping[str, int | bool]] = {"png": {"optimize": True}, "jpeg": {"quality": 80}}

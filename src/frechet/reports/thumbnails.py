"""Thumbnails embedded in a report page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from frechet.errors import ImageDecodeError, RequestError
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import Evaluation
from frechet.execution.chunks import Partition
from frechet.execution.settings import Settings
from frechet.execution.stored_thumbnails import can_read_again
from frechet.images.decode import decode
from frechet.images.image import ImageSource
from frechet.images.sources.registry import open_source
from frechet.statistics.feature_statistics import FeatureStatistics

MAX_SIZE = 160  # pixels of the longer side
_MAX_PNG_SIZE = 64  # thumbnails up to this size are stored without loss


def open_shown_images(evaluation: Evaluation, request: ScoreRequest) -> dict[str, ImageSource]:
    """Return the images of a run that can be decoded again, by input.

    Those of a reference that is a statistics file are `request.reference_images` if these are as many as the file records.
    """
    sources, reference = dict(evaluation.sources), evaluation.statistics["reference"]
    given = request.reference_images
    if "reference" not in sources and given is not None and not isinstance(given, FeatureStatistics):
        with suppress(RequestError):  # features, not images
            images = open_source(given)
            if len(images) == reference.n == (reference.n_source or reference.n):
                sources["reference"] = images
    return sources


def find_shown_rows(statistics: FeatureStatistics, sources: Mapping[str, ImageSource]) -> np.ndarray | None:
    """Return the rows of a reference whose thumbnails its file holds; None if its images can be decoded, or it holds none."""
    if "reference" in sources or statistics.thumbnail_indices is None or statistics.indices is None:
        return None
    rows = np.flatnonzero(np.isin(statistics.indices, statistics.thumbnail_indices))
    return rows if len(rows) else None


def describe_missing_images(statistics: FeatureStatistics, sources: Mapping[str, ImageSource]) -> str | None:
    """Describe how to show the images of a reference, if they are not available."""
    if "reference" in sources or statistics.rows is None or find_shown_rows(statistics, sources) is not None:
        return None
    return (
        f"The images of {statistics.label} are not available, so their positions are shown instead. To show the images, pass their "
        "folder as the reference, or store thumbnails in the statistics file: frechet stats IMAGES FILE.npz --thumbnails 256"
    )


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
            self._thumbnails[row] = Thumbnail(
                shorten_label(labels[row], self.statistics.label) if labels else f"image {index}"
            )
        self._show_stored(row_of_index)
        if self.source is not None and row_of_index and can_read_again(self.source):
            self._decode(self.source, row_of_index)

    def _show_stored(self, row_of_index: Mapping[int, int]) -> None:
        """Show the thumbnails that the statistics file holds."""
        thumbnails, indices = self.statistics.thumbnails, self.statistics.thumbnail_indices
        if thumbnails is None or indices is None:
            return
        for rgb, index in zip(thumbnails, indices.tolist(), strict=True):
            if index in row_of_index:
                row = row_of_index[index]
                self._thumbnails[row] = replace(self._thumbnails[row], data_url=encode_data_url(rgb))

    def _decode(self, source: ImageSource, row_of_index: Mapping[int, int]) -> None:
        settings = self.settings if self.statistics.path is None else replace(self.settings, num_images=None)
        source_indices = Partition.from_source(source, settings).source_indices
        ordered = sorted(row_of_index)
        image_refs = source.iter_images([source_indices[index] for index in ordered])
        for index, image_ref in zip(ordered, image_refs, strict=True):
            label = shorten_label(image_ref.label, self.statistics.label)
            try:
                data_url = encode_data_url(decode(image_ref).rgb)
            except ImageDecodeError:  # the file changed after it was scored; the page shows its label
                continue
            self._thumbnails[row_of_index[index]] = Thumbnail(label, data_url)


def shorten_label(label: str, source_label: str) -> str:
    """Return the label of an image without the label of its source."""
    return label.removeprefix(source_label).lstrip("/\\:") or label


def encode_data_url(rgb: np.ndarray) -> str:
    """Reduce an image (h, w, 3), uint8, to a thumbnail and return it as a data: URL."""
    image = Image.fromarray(rgb)
    image.thumbnail((MAX_SIZE, MAX_SIZE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    kind = "png" if max(image.size) <= _MAX_PNG_SIZE else "jpeg"
    image.save(out, kind, **_ENCODER_OPTIONS[kind])
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"


_ENCODER_OPTIONS: Mapping[str, Mapping[str, int | bool]] = {"png": {"optimize": True}, "jpeg": {"quality": 80}}

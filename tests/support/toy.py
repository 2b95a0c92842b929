"""An extractor without a network: its features are the first six values of an image.

As a program: collect the statistics of an array file with a work directory, in small or large chunks.
"""

import sys
import time

import numpy as np

from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.features.extractor import LoadedExtractor
from frechet.features.spec import FeatureSpec
from frechet.images.sources.registry import open_source
from frechet.preprocessing.registry import PREPROCESSINGS

PIXELS = 4


class ToyRunner:
    batch_size = 64
    pause = 0.0  # seconds per batch

    def map(self, batches):
        for batch in batches:
            time.sleep(self.pause)
            yield batch.reshape(len(batch), -1)[:, :6].copy()


TOY = LoadedExtractor(
    runner=ToyRunner(),
    preprocessing=PREPROCESSINGS["pytorch-fid"],
    input_size=PIXELS,
    dims=6,
    spec=FeatureSpec(
        extractor="toy", layer="6", weights="0" * 64, is_official=False, preprocessing="none", precision="float32"
    ),
    backend="toy",
)


def first_six_values(images):
    """Return the features of (n, PIXELS, PIXELS, 3) uint8 images, computed independently."""
    return images.reshape(len(images), -1)[:, :6].astype(np.float32)


if __name__ == "__main__":
    ToyRunner.pause = 0.005  # so that the program can be interrupted at many places
    sys.stdout.write("started\n")
    sys.stdout.flush()
    source, folder, out, chunk_kind = sys.argv[1:]
    if chunk_kind == "large":
        import toy_large_chunks  # noqa: F401, lowers the threshold of large chunks
    statistics = collect_statistics(open_source(source), Settings(work_dir=folder), TOY)
    np.savez(
        out, mean=statistics.mean, covariance=statistics.covariance, rows=statistics.rows, indices=statistics.indices
    )

"""Compute reference statistics from any iterator of image batches in JAX, on all local devices.

    python examples/jax_reference.py images.npy reference.npz            # uint8 (n, h, w, 3), memory-mapped
    python examples/jax_reference.py cifar10 reference.npz               # a data set of tensorflow_datasets

On several hosts, run it once per process with `--coordinator HOST:PORT --processes N --process I`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

import frechet.jax


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="Path of an .npy file, uint8 (n, h, w, 3), or name of a tfds data set.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--preprocessing", default=None)
    parser.add_argument("--extractor", default="inception")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    args = parser.parse_args()
    if args.coordinator:
        jax.distributed.initialize(args.coordinator, args.processes, args.process)
    apply, params = frechet.jax.network(args.extractor, preprocessing=args.preprocessing, weights=args.weights)
    iter_batches = iter_array_batches if args.images.endswith(".npy") else iter_tfds_batches
    batches = iter_batches(args.images, args.batch, args.process, args.processes)
    stats = frechet.jax.merge_across_hosts(frechet.jax.collect(batches, apply, params, batch_size=args.batch))
    if jax.process_index() == 0:
        statistics = frechet.jax.to_statistics(stats, label=args.images)
        statistics.save(args.output)
        print(f"{args.output}: {statistics.n} images")


def iter_array_batches(path: str, batch: int, process: int, processes: int) -> Iterator[np.ndarray]:
    """Iterate over every `processes`-th batch of a memory-mapped file; the last batch may be shorter."""
    images = np.load(path, mmap_mode="r")
    for start in range(process * batch, len(images), processes * batch):
        yield images[start : start + batch]


def iter_tfds_batches(name: str, batch: int, process: int, processes: int) -> Iterator[np.ndarray]:
    """Iterate over batches of this process's share of the training split of a tfds data set with images of one size."""
    import tensorflow_datasets as tfds

    share = tfds.even_splits("train", processes)[process]
    for example in tfds.as_numpy(tfds.load(name, split=share).batch(batch)):
        yield example["image"]


if __name__ == "__main__":
    main()

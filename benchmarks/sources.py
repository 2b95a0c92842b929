"""Score the same images from every kind of source: the values must be equal, and the peak memory of each process is measured.

    python benchmarks/sources.py IMAGES.zip [--count 2000] [--output FILE]

IMAGES is a folder or archive of images of one size. They are stored again, losslessly, as a folder, zip, tar shards, Parquet, .npz
and HDF5, and in the memory file system of fsspec. Each is scored with EfficientNet-Lite0 against mirror images of the first fifth.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
from machine import describe_machine, write_result
from PIL import Image
from pyarrow import parquet

from frechet.images.decode import decode
from frechet.images.sources.registry import open_source

CHILD_PROGRAM = """
import json, resource, sys
import frechet
path, reference, local = sys.argv[1:]
if local:
    import fsspec
    fsspec.filesystem("memory").put(local, path)
score = frechet.score(path, reference, extractor="efficientnet-lite0", interval="none")["fd"]
print(json.dumps([float(score), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]))
"""


def write_sources(directory, images, files):
    """Return {kind: (path to score, local file to copy to memory first, or "")}."""
    folder = directory / "folder"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(directory / "a.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    for shard in range(4):
        with tarfile.open(directory / f"s-{shard}.tar", "w") as archive:
            for name, data in list(files.items())[shard * len(files) // 4 : (shard + 1) * len(files) // 4]:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    rows = [{"bytes": data, "path": name} for name, data in files.items()]
    parquet.write_table(pa.table({"image": rows}), directory / "a.parquet", row_group_size=100)
    np.savez(directory / "a.npz", arr_0=images)
    with h5py.File(directory / "a.h5", "w") as archive:
        archive["images"] = images
    return {
        "folder": (folder, ""),
        "zip": (directory / "a.zip", ""),
        "tar shards": (directory / "s-{0..3}.tar", ""),
        "parquet": (directory / "a.parquet", ""),
        "npz": (directory / "a.npz", ""),
        "hdf5": (directory / "a.h5", ""),
        "memory:// (zip)": ("memory://a.zip", directory / "a.zip"),
        "memory:// (parquet)": ("memory://a.parquet", directory / "a.parquet"),
    }


def encode_png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    source = open_source(args.images)
    images = np.stack([decode(image_ref).rgb for image_ref in source.iter_images(range(min(args.count, len(source))))])
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        reference = directory / "reference.npz"
        mirrored = images[: len(images) // 5][:, ::-1].copy()
        np.savez(directory / "mirrored.npz", arr_0=mirrored)
        build = f"import frechet; frechet.collect({str(directory / 'mirrored.npz')!r}, extractor='efficientnet-lite0').save({str(reference)!r})"
        subprocess.run([sys.executable, "-c", build], check=True)
        for kind, (path, local) in write_sources(
            directory, images, {f"{n:05}.png": encode_png(i) for n, i in enumerate(images)}
        ).items():
            command = [sys.executable, "-c", CHILD_PROGRAM, str(path), str(reference), str(local)]
            value, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rows[kind] = {"value": value, "peak_memory_mb": peak}
            print(kind, rows[kind], file=sys.stderr)
    values = [row["value"] for row in rows.values()]
    result = {
        "machine": describe_machine("frechet", "numpy", "openvino", "pillow", "fsspec", "pyarrow", "h5py"),
        "images": len(images),
        "largest_relative_difference": (max(values) - min(values)) / values[0],
        "kinds": rows,
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()

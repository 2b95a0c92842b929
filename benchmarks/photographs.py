"""Run throughput.py on photographs: JPEG files of 256 x 256, which take time to decode.

    python benchmarks/photographs.py --weights FILE.pth --peers PYTHON [--images 300] [--from PHOTOGRAPHS]

The images are square crops of at least 256 pixels at seeded random positions, resized to 256 x 256 and saved as JPEG in a
temporary folder. The photographs are those that come with scikit-image and scikit-learn (`pip install 'frechet[demo]'`), or
those of a folder or archive.
"""

import argparse
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
from machine import write_result
from PIL import Image
from throughput import add_options, compare_tools

from frechet.demo.photographs import NATURAL_PHOTOGRAPHS
from frechet.images.decode import decode
from frechet.images.sources.registry import open_source

PIXELS, JPEG_QUALITY = 256, 90


def iter_bundled_photographs():
    """Iterate over the natural photographs that come with scikit-image and scikit-learn."""
    for package, name in NATURAL_PHOTOGRAPHS:
        yield Image.open(Path(importlib.util.find_spec(package).origin).parent / name).convert("RGB")


def iter_photographs(path):
    """Iterate over the photographs of a folder or archive that are large enough."""
    source = open_source(path)
    for image_ref in source.iter_images(range(len(source))):
        image = Image.fromarray(decode(image_ref).rgb)
        if min(image.size) >= PIXELS:
            yield image


def write_crops(photographs, folder, count, seed):
    """Write `count` crops as JPEG files, from each photograph in turn."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    for index in range(count):
        image = photographs[index % len(photographs)]
        side = int(random.integers(PIXELS, min(2 * PIXELS, *image.size) + 1))
        left, top = (int(random.integers(0, length - side + 1)) for length in image.size)
        crop = image.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
        crop.save(folder / f"{index:05}.jpg", quality=JPEG_QUALITY)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300, help="Number of images per set.")
    parser.add_argument("--from", dest="photographs", metavar="PHOTOGRAPHS", help="Folder or archive of photographs.")
    add_options(parser, "frechet,pytorch-fid")
    args = parser.parse_args()
    photographs = list(iter_photographs(args.photographs) if args.photographs else iter_bundled_photographs())
    with tempfile.TemporaryDirectory() as folder:
        args.generated, args.reference = Path(folder, "generated"), Path(folder, "reference")
        for seed, crops in enumerate((args.generated, args.reference)):
            write_crops(photographs, crops, args.images, seed)
        size = [file.stat().st_size for crops in (args.generated, args.reference) for file in crops.iterdir()]
        result = compare_tools(args)
    result["kind"] = {
        "files": f"JPEG, {PIXELS} x {PIXELS}, quality {JPEG_QUALITY}",
        "mean_bytes": round(sum(size) / len(size)),
        "photographs": len(photographs),
        "from": "a folder" if args.photographs else "scikit-image and scikit-learn",
    }
    write_result(result, args.output)


if __name__ == "__main__":
    main()

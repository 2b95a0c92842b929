"""Compare frechet with every tool that has a page in docs/coming-from: two distances and their relative difference.

    python benchmarks/agreement.py IMAGES.zip --weights FILE.pth --peers PYTHON --source adm=DIR --source edm2=DIR ...
        [--tools pytorch-fid,...] [--count 100] [--output FILE]

The first COUNT images of the folder or archive are scored against the next COUNT. Tools that are on PyPI run from images to
distance, as in throughput.py, in the environment of the other tools. For the remaining tools (adm, edm2, fastfid, jax-fid,
jax-fid-parallel) `--source` names a checkout, and formulas.py runs the distance function of that checkout on features in the
preprocessing of the tool. There are two sets of features: 2,048 dimensions, where COUNT images make the covariances singular
and the matrix square roots of these tools are not exact, and 64 dimensions, where the difference is rounding.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import describe_machine, write_result
from PIL import Image
from throughput import PREPROCESSINGS, get_peer_versions, make_commands, run_measured, torch_home

import frechet
from frechet.images.decode import decode
from frechet.images.sources.registry import open_source

WHOLE_PROGRAMS = ("pytorch-fid", "clean-fid", "torch-fidelity", "torchmetrics")
FORMULA_PREPROCESSINGS = {
    "fastfid": "pytorch-fid",
    "jax-fid": "pytorch-fid",
    "jax-fid-parallel": "pytorch-fid",
    "adm": "tensorflow",
    "edm2": "tensorflow",
}


def write_image_folders(images, count, folder):
    """Write two consecutive sets of images to two folders of PNG files."""
    source = open_source(images)
    folders = folder / "generated", folder / "reference"
    for number, image_folder in enumerate(folders):
        image_folder.mkdir()
        for index, image_ref in enumerate(source.iter_images(range(number * count, (number + 1) * count))):
            Image.fromarray(decode(image_ref).rgb).save(image_folder / f"{index:05}.png")
    return folders


def parse_distance(line):
    """Return the distance that a tool prints, as a line of text or (torch-fidelity) as a dictionary."""
    return float(line.strip("{} ").split()[-1])


def make_row(ours, theirs):
    return {"frechet": ours, "theirs": theirs, "relative_difference": abs(ours - theirs) / abs(theirs)}


def compare_whole_program(tool, args, hub):
    theirs = parse_distance(run_measured(*make_commands(args, hub)[tool])[3][-1])
    options = {"weights": args.weights, "preprocessing": PREPROCESSINGS.get(tool, "pytorch-fid"), "interval": "none"}
    return make_row(float(frechet.fid(args.generated, args.reference, **options)), theirs)


def compare_formula(tool, args, statistics_by_dims, checkout):
    """Return a row for each number of dimensions and dtype, computed from the same features by both tools."""
    rows = {}
    for dims, (generated, reference) in statistics_by_dims.items():
        file = args.generated.parent / "features.npz"
        np.savez(file, generated=generated.rows, reference=reference.rows)
        command = [args.peers, str(Path(__file__).with_name("formulas.py")), tool, str(checkout), str(file)]
        completed = subprocess.run(command, check=False, capture_output=True, text=True)
        if completed.returncode:
            sys.exit(f"{tool}: {completed.stderr[-2000:]}")
        ours = float(frechet.fid(generated, reference, interval="none"))
        for dtype, theirs in json.loads(completed.stdout).items():
            rows[f"features_{dims}_{dtype}"] = make_row(ours, theirs)
    return rows


def collect_statistics(args, preprocessing):
    """Return {dims: (generated, reference)} statistics, which keep the features of all images of such small sets."""
    options = {"weights": args.weights, "preprocessing": preprocessing}
    return {
        dims: [frechet.collect(images, dims=dims, **options) for images in (args.generated, args.reference)]
        for dims in (2048, 64)
    }


def compare_tools(args, checkouts):
    tools = args.tools.split(",") if args.tools else [*WHOLE_PROGRAMS, *checkouts]
    rows, collected = {}, {}
    with tempfile.TemporaryDirectory() as folder, torch_home(args.weights) as hub:
        args.generated, args.reference = write_image_folders(args.images, args.count, Path(folder))
        for tool in tools:
            if tool in WHOLE_PROGRAMS:
                rows[tool] = {"whole_program": compare_whole_program(tool, args, hub)}
            else:
                preprocessing = FORMULA_PREPROCESSINGS[tool]
                if preprocessing not in collected:
                    collected[preprocessing] = collect_statistics(args, preprocessing)
                statistics_by_dims = dict(collected[preprocessing])
                if tool == "fastfid":  # requires fewer images than dimensions
                    del statistics_by_dims[64]
                rows[tool] = compare_formula(tool, args, statistics_by_dims, checkouts[tool])
            print_rows(tool, rows[tool])
    return rows


def print_rows(tool, rows):
    for name, row in rows.items():
        print(
            f"{tool:<17} {name:<24} {row['frechet']:.6f}  theirs {row['theirs']:.6f}  {row['relative_difference']:.1e}",
            file=sys.stderr,
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--source", action="append", default=[], metavar="TOOL=DIR")
    parser.add_argument(
        "--tools", help="Comma-separated tools to run; rows of other tools in the output file are kept."
    )
    parser.add_argument("--count", type=int, default=100, help="Number of images per set.")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    checkouts = dict(source.split("=", 1) for source in args.source)
    if unknown := checkouts.keys() - FORMULA_PREPROCESSINGS:
        parser.error(f"unknown source {', '.join(unknown)}; expected {', '.join(FORMULA_PREPROCESSINGS)}")
    rows = compare_tools(args, checkouts)
    if args.tools and args.output and args.output.exists():
        rows = json.loads(args.output.read_text())["tools"] | rows
    result = {
        "machine": describe_machine("frechet", "numpy", "openvino", "pillow"),
        "peers": get_peer_versions(args.peers),
        "sources": {tool: get_revision(checkout) for tool, checkout in checkouts.items()},
        "images": [args.count, args.count],
        "tools": rows,
    }
    write_result(result, args.output)


def get_revision(checkout):
    """Return the commit that is checked out, or None if the folder is not a git checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


if __name__ == "__main__":
    main()

"""Every tool that docs/coming-from speaks of, beside frechet: two numbers and their relative difference.

    python benchmarks/agreement.py IMAGES.zip --weights FILE.pth --peers PYTHON --source adm=DIR --source edm2=DIR ...
        [--tools pytorch-fid,...] [--count 100] [--output FILE]

The first COUNT images of the folder or zip are scored against the next COUNT. Tools that are on PyPI run whole, from images
to number, as in throughput.py, in the environment of the peers. Of the others (adm, edm2, fastfid, jax-fid, jax-fid-parallel)
`--source` names a checkout, from which formulas.py takes the tool's own distance; both are given the same features, in
the tool's convention: the usual 2,048 where COUNT images leave the covariances singular, and the 64 of `--dims 64` where they
do not (what is left there is rounding; singular, the matrix square root that these tools take is not exact).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import machine
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
    """Two folders of PNG files."""
    source = open_source(images)
    sides = folder / "generated", folder / "reference"
    for number, side in enumerate(sides):
        side.mkdir()
        for index, image_ref in enumerate(source.iter_images(range(number * count, (number + 1) * count))):
            Image.fromarray(decode(image_ref).rgb).save(side / f"{index:05}.png")
    return sides


def parse_distance(line):
    """The distance in what a tool prints: a line of words, or torch-fidelity's dictionary."""
    return float(line.strip("{} ").split()[-1])


def make_row(ours, theirs):
    return {"frechet": ours, "theirs": theirs, "relative_difference": abs(ours - theirs) / abs(theirs)}


def compare_whole_program(tool, args, hub):
    theirs = parse_distance(run_measured(*make_commands(args, hub)[tool])[3][-1])
    options = {"weights": args.weights, "convention": PREPROCESSINGS.get(tool, "pytorch-fid"), "interval": "none"}
    return make_row(float(frechet.fid(args.generated, args.reference, **options)), theirs)


def compare_formula(tool, args, sides, checkout):
    """dimensions and dtype -> row, from the same features."""
    rows = {}
    for dims, (generated, reference) in sides.items():
        file = args.generated.parent / "features.npz"
        np.savez(file, generated=generated.rows, reference=reference.rows)
        command = [args.peers, str(Path(__file__).with_name("formulas.py")), tool, str(checkout), str(file)]
        completed = subprocess.run(command, check=False, capture_output=True, text=True)
        if completed.returncode:
            sys.exit(f"{tool}: {completed.stderr[-2000:]}")
        ours = float(frechet.fid(generated, reference, interval="none"))
        for dtype, theirs in json.loads(completed.stdout).items():
            rows[f"{dims} features, {dtype}"] = make_row(ours, theirs)
    return rows


def collect_statistics(args, preprocessing):
    """dimensions -> the two sides' statistics, which keep the features of so few images."""
    options = {"weights": args.weights, "convention": preprocessing}
    return {
        dims: [frechet.collect(side, dims=dims, **options) for side in (args.generated, args.reference)]
        for dims in (2048, 64)
    }


def compare_tools(args, checkouts):
    tools = args.tools.split(",") if args.tools else [*WHOLE_PROGRAMS, *checkouts]
    rows, collected = {}, {}
    with tempfile.TemporaryDirectory() as folder, torch_home(args.weights) as hub:
        args.generated, args.reference = write_image_folders(args.images, args.count, Path(folder))
        for tool in tools:
            if tool in WHOLE_PROGRAMS:
                rows[tool] = {"whole program": compare_whole_program(tool, args, hub)}
            else:
                preprocessing = FORMULA_PREPROCESSINGS[tool]
                if preprocessing not in collected:
                    collected[preprocessing] = collect_statistics(args, preprocessing)
                sides = dict(collected[preprocessing])
                if tool == "fastfid":  # it is for fewer images than dimensions
                    del sides[64]
                rows[tool] = compare_formula(tool, args, sides, checkouts[tool])
            print_rows(tool, rows[tool])
    return rows


def print_rows(tool, rows):
    for what, found in rows.items():
        print(
            f"{tool:<17} {what:<24} {found['frechet']:.6f}  theirs {found['theirs']:.6f}  {found['relative_difference']:.1e}",
            file=sys.stderr,
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--source", action="append", default=[], metavar="TOOL=DIR")
    parser.add_argument("--tools", help="some of them alone, by commas; what the output file says of others is kept")
    parser.add_argument("--count", type=int, default=100, help="images a side")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    checkouts = dict(source.split("=", 1) for source in args.source)
    if unknown := checkouts.keys() - FORMULA_PREPROCESSINGS:
        parser.error(f"unknown source {', '.join(unknown)}; expected {', '.join(FORMULA_PREPROCESSINGS)}")
    rows = compare_tools(args, checkouts)
    if args.tools and args.output and args.output.exists():
        rows = json.loads(args.output.read_text())["tools"] | rows
    result = {
        "machine": machine("frechet", "numpy", "openvino", "pillow"),
        "peers": get_peer_versions(args.peers),
        "sources": {tool: get_revision(checkout) for tool, checkout in checkouts.items()},
        "images": [args.count, args.count],
        "tools": rows,
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


def get_revision(checkout):
    """The commit that is checked out, or None where the folder is no checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


if __name__ == "__main__":
    main()

"""`frechet stats`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from frechet._internal.atomic_write import check_output
from frechet._internal.terminal import one_line
from frechet.cli.options import engine_of, features_option, image_options
from frechet.cli.progress import progress_bars
from frechet.evaluation import run


@click.command()
@click.argument("images")
@click.argument("out", type=click.Path(path_type=Path))
@image_options
@features_option
@click.option("--force", is_flag=True, help="Replace the output file.")
def command(images: str, out: Path, force: bool, **settings: Any) -> None:
    """Write statistics of IMAGES to OUT (.npz), for `frechet score` and for pytorch-fid.

    IMAGES is a folder, a .zip, an .npz with arr_0 or an .npy.

    \b
    frechet stats reference/ reference.npz
    frechet stats features.npy reference.npz --features
    """
    check_output(out, suffix=".npz", force=force)
    with engine_of(settings) as chosen, progress_bars() as progress:
        if chosen is None:
            return
        statistics = run.collect(images, progress=progress, **chosen)
    for remark in statistics.remarks:
        print(f"warning: {one_line(remark)}", file=sys.stderr)
    for bad in statistics.bad_images:
        print(f"warning: left out: {one_line(bad)}", file=sys.stderr)
    statistics.save(out, force=force)
    print(f"{out}: {statistics.n:,} {'rows' if settings['features'] else 'images'}, {statistics.dims} dimensions")

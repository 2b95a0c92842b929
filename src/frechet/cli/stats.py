"""`frechet stats`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from frechet._internal.atomic_write import check_output_path
from frechet._internal.terminal import escape_line, print_stderr, run_all
from frechet.cli.options import GroupedCommand, options_of, resolve_engine
from frechet.cli.parameter_types import HomePath, Source
from frechet.cli.progress import progress_bars, progress_option
from frechet.errors import RequestError
from frechet.evaluation.provenance import describe_skipped
from frechet.evaluation.run import CollectRequest, collect


@click.command(cls=GroupedCommand)
@click.argument("images", type=Source())
@click.argument("out", type=HomePath())
@options_of(CollectRequest)
@progress_option
@click.option("--force", is_flag=True, help="Overwrite an existing output file.")
def command(images: str, out: Path, progress_mode: str, force: bool, **options: Any) -> None:
    """Write statistics of IMAGES to OUT (.npz), for `frechet score` and for pytorch-fid.

    IMAGES is a folder or archive of images, a pattern of archives, or a URL, as in frechet score.

    \b
    frechet stats reference/ reference.npz
    frechet stats features.npy reference.npz --features
    """
    _require_order(images, out)
    check_output_path(out, suffix=".npz", force=force)
    with resolve_engine(options) as resolved, progress_bars(progress_mode) as progress:
        if resolved is None:
            return
        statistics = collect(images, progress=progress, **resolved)
    for note in statistics.notes:
        print_stderr(f"warning: {escape_line(note)}")
    if statistics.skipped_images:
        print_stderr(f"warning: {escape_line(describe_skipped(statistics.skipped_images, str(out)))}")
    run_all([lambda: statistics.save(out, force=force)])
    print(f"{out}: {statistics.n:,} {'rows' if options['features'] else 'images'}, {statistics.dims:,} dimensions")


def _require_order(images: str, out: Path) -> None:
    """Reject arguments in the wrong order.

    Raises:
        RequestError: OUT is a folder or an archive that exists, and IMAGES is an .npz.
    """
    if out.exists() and out.suffix != ".npz" and images.endswith(".npz"):
        raise RequestError(
            f"OUT is {out}, which exists and is not an .npz file, and IMAGES is {images}; the arguments seem to be swapped. Expected "
            f"IMAGES, then OUT: frechet stats {shlex.join([str(out), images])}"
        )

"""`frechet demo`: FD increases with the level of image corruptions."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click
import numpy as np

from frechet._internal.atomic_write import atomic_write, check_output_path
from frechet.cli.parameter_types import HomePath
from frechet.cli.progress import progress_bars, progress_option
from frechet.demo.corruptions import CORRUPTIONS
from frechet.demo.photographs import NATURAL_PHOTOGRAPHS, sample_patches
from frechet.errors import RequestError
from frechet.evaluation.compute import score_statistics
from frechet.execution.collect import ProgressCallback, collect_statistics
from frechet.execution.settings import Settings
from frechet.images.sources.registry import open_source
from frechet.results import Score
from frechet.statistics.feature_statistics import FeatureStatistics

N_REFERENCE, N_CORRUPTED = 1000, 400  # patches
LEVELS = (0.0, 1 / 3, 2 / 3, 1.0)  # corruption levels
_DEFAULT_PLOT = Path("frechet-demo.png")


@click.command()
@click.option(
    "--plot",
    type=HomePath(),
    metavar="FILE",
    help=f"Write the plot to FILE (default: {_DEFAULT_PLOT}, which is overwritten).",
)
@progress_option
@click.option("--force", is_flag=True, help="Overwrite the file given with --plot.")
def command(plot: Path | None, progress_mode: str, force: bool) -> None:
    """Score corrupted photographs (offline, about a minute).

    The reference consists of 1,000 patches of photographs from scikit-image and scikit-learn. 400 of them are corrupted
    in five ways at increasing levels (as in Heusel et al. 2017, figure 3) and scored against the reference with
    EfficientNet-Lite0, the extractor whose trained weights are part of a Python package.
    """
    _require_packages()
    from frechet.reports.plots import plot_corruptions, save_figure  # imports matplotlib, an optional dependency

    path, force = (plot, force) if plot else (_DEFAULT_PLOT, True)
    check_output_path(path, suffix=".png", force=force)
    with progress_bars(progress_mode) as progress:
        curves, examples = _score_corruptions(progress)
    _print_table(curves)
    label = next(iter(curves.values()))[0].label
    values = {name: [score.value for score in scores] for name, scores in curves.items()}
    figure = plot_corruptions(values, examples, LEVELS, label)
    with atomic_write(path, suffix=".png", force=force) as temporary_path:
        save_figure(figure, temporary_path)
    print(f"plot: {path}")


def _score_corruptions(progress: ProgressCallback) -> tuple[dict[str, list[Score]], dict[str, list[np.ndarray]]]:
    """Return (scores, example images) at each corruption level, by name of the corruption."""
    settings = Settings(extractor="efficientnet-lite0")
    extractor = settings.load()

    n_finished, n_total = 0, N_REFERENCE + N_CORRUPTED * (1 + len(CORRUPTIONS) * len(LEVELS[1:]))

    def collect_array(images: np.ndarray) -> FeatureStatistics:
        nonlocal n_finished
        n_before = n_finished

        def on_image(_stage: str, done: int, _total: int) -> None:
            progress("patches", n_before + done, n_total)

        n_finished += len(images)
        return collect_statistics(open_source(images), settings, extractor, on_image)

    photographs = sample_patches(NATURAL_PHOTOGRAPHS, N_REFERENCE, seed=0)
    originals = photographs[np.random.default_rng(0).permutation(N_REFERENCE)[:N_CORRUPTED]]
    reference = collect_array(photographs)
    uncorrupted = score_statistics(collect_array(originals), reference)["fd"]
    curves, examples = {}, {}
    for name, corrupt in CORRUPTIONS.items():
        curves[name], examples[name] = [uncorrupted], [_make_mosaic(originals)]
        for level in LEVELS[1:]:
            corrupted = corrupt(originals, level, 0)
            curves[name].append(score_statistics(collect_array(corrupted), reference)["fd"])
            examples[name].append(_make_mosaic(corrupted))
    return curves, examples


def _make_mosaic(stack: np.ndarray) -> np.ndarray:
    """Arrange the first four patches in a 2 x 2 grid."""
    return np.concatenate([np.concatenate(list(stack[row : row + 2]), axis=1) for row in (0, 2)])


def _print_table(curves: dict[str, list[Score]]) -> None:
    label = next(iter(curves.values()))[0].label
    print(f"{label} of {N_CORRUPTED} corrupted patches against {N_REFERENCE} uncorrupted patches")
    print(f"{'corruption level':<18}" + "".join(f"{level:>9.2f}" for level in LEVELS))
    for name, scores in curves.items():
        print(f"{name:<18}" + "".join(f"{score.value:>9.3f}" for score in scores))


def _require_packages() -> None:
    for package in ("matplotlib", "skimage", "sklearn"):
        if importlib.util.find_spec(package) is None:
            raise RequestError(f"the demo needs {package}, which is not installed; run pip install 'frechet[demo]'")

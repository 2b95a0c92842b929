"""`frechet demo`: the distance rises as photographs are spoiled."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click
import numpy as np

from frechet._internal.atomic_write import atomic_write, check_output_path
from frechet.cli.progress import progress_bars
from frechet.demo.corruptions import CORRUPTIONS
from frechet.demo.photographs import NATURAL_PHOTOGRAPHS, sample_patches
from frechet.errors import RequestError
from frechet.evaluation.compute import score_statistics
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.sources.registry import open_source
from frechet.results import Score
from frechet.statistics.feature_statistics import FeatureStatistics

N_REFERENCE, N_CORRUPTED = 1000, 400  # patches
LEVELS = (0.0, 1 / 3, 2 / 3, 1.0)
_DEFAULT_PLOT = Path("frechet-demo.png")


@click.command()
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Where the plot goes; without this flag to {_DEFAULT_PLOT}, anew each time.",
)
@click.option("--force", is_flag=True, help="Replace the file named with --plot.")
def command(plot: Path | None, force: bool) -> None:
    """See the distance rise on real photographs, offline, in about a minute.

    A thousand patches of photographs that come with scikit-image and scikit-learn are the reference. Four hundred of
    them are disturbed in five ways at rising strength (as in Heusel et al. 2017, figure 3) and scored against it with
    EfficientNet-Lite0, the extractor whose trained weights come with a package.
    """
    _require_packages()
    from frechet.reports.plots import plot_corruptions, save_figure  # matplotlib is an extra

    path, force = (plot, force) if plot else (_DEFAULT_PLOT, True)
    check_output_path(path, suffix=".png", force=force)
    settings = Settings(extractor="efficientnet-lite0")
    photographs = sample_patches(NATURAL_PHOTOGRAPHS, N_REFERENCE, seed=0)
    originals = photographs[np.random.default_rng(0).permutation(N_REFERENCE)[:N_CORRUPTED]]
    curves: dict[str, list[Score]] = {}
    examples: dict[str, list[np.ndarray]] = {}
    with progress_bars() as progress:
        extractor = settings.load()

        def collect_arrays(images: np.ndarray, stage: str) -> FeatureStatistics:
            return collect_statistics(open_source(images), settings, extractor, progress, stage)

        reference = collect_arrays(photographs, "reference")
        uncorrupted = score_statistics(collect_arrays(originals, "untouched"), reference)["fd"]
        for name, corrupt in CORRUPTIONS.items():
            stacks = [corrupt(originals, level, 0) for level in LEVELS[1:]]
            sides = [
                collect_arrays(stack, f"{name} {level:.0%}") for stack, level in zip(stacks, LEVELS[1:], strict=True)
            ]
            curves[name] = [uncorrupted, *(score_statistics(side, reference)["fd"] for side in sides)]
            examples[name] = [_make_mosaic(stack) for stack in (originals, *stacks)]
    _print_table(curves)
    figure = plot_corruptions(
        {name: [score.value for score in scores] for name, scores in curves.items()},
        examples,
        LEVELS,
        uncorrupted.label,
    )
    with atomic_write(path, suffix=".png", force=force) as temporary_path:
        save_figure(figure, temporary_path)
    print(f"plot: {path}")


def _make_mosaic(stack: np.ndarray) -> np.ndarray:
    """The first four patches, two by two."""
    return np.concatenate([np.concatenate(list(stack[row : row + 2]), axis=1) for row in (0, 2)])


def _print_table(curves: dict[str, list[Score]]) -> None:
    label = next(iter(curves.values()))[0].label
    print(f"{label} of {N_CORRUPTED} disturbed patches to {N_REFERENCE} untouched ones")
    print(f"{'strength':<16}" + "".join(f"{level:>9.2f}" for level in LEVELS))
    for name, scores in curves.items():
        print(f"{name:<16}" + "".join(f"{score.value:>9.3f}" for score in scores))


def _require_packages() -> None:
    for package in ("matplotlib", "skimage", "sklearn"):
        if importlib.util.find_spec(package) is None:
            raise RequestError(f"the demo needs {package}: pip install 'frechet[demo]'")

"""`frechet demo`: the distance rises as photographs are spoiled."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click
import numpy as np

from frechet._internal.atomic_write import check_output, written_aside
from frechet.cli.progress import progress_bars
from frechet.demo.corruptions import DISTURBANCES
from frechet.demo.photographs import EVERYDAY, patches
from frechet.errors import RequestError
from frechet.evaluation.compute import compare
from frechet.execution.collect import collect_from
from frechet.execution.settings import Settings
from frechet.images.sources.registry import open_source
from frechet.results import Score
from frechet.statistics.feature_statistics import Statistics

REFERENCE, DISTURBED = 1000, 400  # patches
STRENGTHS = (0.0, 1 / 3, 2 / 3, 1.0)
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
    from frechet.reports.plots import disturbance_figure, save_figure  # matplotlib is an extra

    path, force = (plot, force) if plot else (_DEFAULT_PLOT, True)
    check_output(path, suffix=".png", force=force)
    settings = Settings(extractor="efficientnet-lite0")
    photographs = patches(EVERYDAY, REFERENCE, seed=0)
    some = photographs[np.random.default_rng(0).permutation(REFERENCE)[:DISTURBED]]
    curves: dict[str, list[Score]] = {}
    examples: dict[str, list[np.ndarray]] = {}
    with progress_bars() as progress:
        extractor = settings.load()

        def measure(images: np.ndarray, what: str) -> Statistics:
            return collect_from(open_source(images), settings, extractor, progress, what)

        reference = measure(photographs, "reference")
        untouched = compare(measure(some, "untouched"), reference)["fd"]
        for name, disturb in DISTURBANCES.items():
            stacks = [disturb(some, strength, 0) for strength in STRENGTHS[1:]]
            sides = [
                measure(stack, f"{name} {strength:.0%}") for stack, strength in zip(stacks, STRENGTHS[1:], strict=True)
            ]
            curves[name] = [untouched, *(compare(side, reference)["fd"] for side in sides)]
            examples[name] = [_mosaic(stack) for stack in (some, *stacks)]
    _print_table(curves)
    figure = disturbance_figure(
        {name: [score.value for score in scores] for name, scores in curves.items()},
        examples,
        STRENGTHS,
        untouched.label,
    )
    with written_aside(path, suffix=".png", force=force) as aside:
        save_figure(figure, aside)
    print(f"plot: {path}")


def _mosaic(stack: np.ndarray) -> np.ndarray:
    """The first four patches, two by two."""
    return np.concatenate([np.concatenate(list(stack[row : row + 2]), axis=1) for row in (0, 2)])


def _print_table(curves: dict[str, list[Score]]) -> None:
    label = next(iter(curves.values()))[0].label
    print(f"{label} of {DISTURBED} disturbed patches to {REFERENCE} untouched ones")
    print(f"{'strength':<16}" + "".join(f"{strength:>9.2f}" for strength in STRENGTHS))
    for name, scores in curves.items():
        print(f"{name:<16}" + "".join(f"{score.value:>9.3f}" for score in scores))


def _require_packages() -> None:
    for package in ("matplotlib", "skimage", "sklearn"):
        if importlib.util.find_spec(package) is None:
            raise RequestError(f"the demo needs {package}: pip install 'frechet[demo]'")

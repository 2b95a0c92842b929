"""A race as text for a terminal and as a page."""

from __future__ import annotations

import datetime as dt

from frechet.evaluation.race_result import Race, RacedModel, RacePair
from frechet.reports.comparison_formats import round_to_error
from frechet.reports.page_template import render_template, require_packages, typeset_minus
from frechet.reports.tables import Table, format_text
from frechet.results import ESTIMANDS

_HEADER = ("model", "images", "bias-corrected", "difference to first", "interval", "verdict")
_PAIR_HEADER = ("models", "images", "difference", "interval", "verdict")


def describe_race(race: Race) -> str:
    """Say in one sentence what the race found."""
    names = [model.name for model in race.models]
    certainty = f"{100 * (1 - race.alpha):g} % certainty"
    if race.winner is not None:
        return f"{names[0]} has the smallest {race.label}, with {certainty}."
    left = [name for name, model in zip(names, race.models, strict=True) if model.verdict != "worse than the best"]
    return f"With {race.max_images:,} images per model, {' and '.join(left)} cannot be distinguished with {certainty}."


def describe_images(race: Race) -> str:
    """Say in one sentence how many images the race took."""
    total = race.images_used + race.images_saved
    return f"{race.images_used:,} images were used, {100 * race.images_saved / total:.0f} % fewer than {race.max_images:,} of each model."


def tabulate_models(race: Race) -> Table:
    """Return the ranking, with values rounded to two digits of their standard error."""
    return Table(
        title=race.label,
        header=_HEADER,
        rows=[_format_model(model, model is race.models[0]) for model in race.models],
        notes=[
            describe_race(race),
            describe_images(race),
            f"The distances are {ESTIMANDS[race.reference_is].replace('the distance', 'those')}. All intervals of differences, at all "
            f"{len(race.looks)} looks, hold together with a probability of {100 * (1 - race.alpha):g} %.",
        ],
    )


def tabulate_pairs(race: Race) -> Table:
    """Return the differences of all pairs of models."""
    return Table(title="Differences", header=_PAIR_HEADER, rows=[_format_pair(pair) for pair in race.pairs])


def format_race(race: Race) -> str:
    """Format a race for a terminal: the ranking and, if all pairs were compared, their differences."""
    tables = [tabulate_models(race), *([tabulate_pairs(race)] if race.find == "all-pairs" else [])]
    return format_text(tables)


def render_race_page(race: Race) -> str:
    """Render the page of a race, with the plot of the shrinking intervals."""
    require_packages()
    from frechet.reports.plots import plot_race  # imports matplotlib, an optional dependency

    def typeset(table: Table) -> list[list[str]]:
        return [[row[0], *map(typeset_minus, row[1:-1]), row[-1]] for row in table.rows]

    models, pairs = tabulate_models(race), tabulate_pairs(race)
    return render_template(
        "race.html",
        title=(
            f"{race.label.partition(' (')[0]} of {len(race.models)} models vs {race.reference}, "
            f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d}"
        ),
        race=race,
        plot=plot_race(race),
        notes=models.notes,
        tables=[
            ("ranking", "Ranking", models.header, typeset(models)),
            ("pairs", "Differences", pairs.header, typeset(pairs)),
        ],
        json=race.to_json(),
    )


def _format_model(model: RacedModel, is_first: bool) -> list[str]:
    error = model.standard_error
    return [
        model.name,
        f"{model.n_images:,}",
        round_to_error(model.corrected_value, error),
        "" if is_first else round_to_error(model.difference, error),
        "" if is_first else _format_interval(*model.difference_interval, error),
        model.verdict,
    ]


def _format_pair(pair: RacePair) -> list[str]:
    error = (pair.high - pair.low) / 6  # about the standard error
    return [
        f"{pair.one} - {pair.other}",
        f"{pair.n_images:,}",
        round_to_error(pair.difference, error),
        _format_interval(pair.low, pair.high, error),
        "different" if pair.is_decided else "not distinguished",
    ]


def _format_interval(low: float, high: float, error: float) -> str:
    return f"{round_to_error(low, error)} to {round_to_error(high, error)}"

"""The tables of docs/stop-sampling.md, from the result of anytime.py."""

from collections import Counter

CLASS_PREFIX, CLASS_DIMS = "CIFAR ", 64
FIXED = ("the largest sample", "5 %", "the true gap")


def format_coverage(name, row):
    """Return the row of a model."""
    features, dims = _split_name(name)
    keys = ("anytime", "naive peeking", "asymptotic confidence sequence")
    cells = [
        features,
        dims,
        f"{row['distance']:.3g}",
        f"{row['runs']:,}",
        *(_percent(row["coverage"][key]) for key in keys),
    ]
    widths = ("width_relative_to_one_look", "confidence_sequence_width_relative_to_one_look")
    return _format_row([*cells, *(f"{row[key]:.2f}" for key in widths)])


def format_race(row, distances):
    """Return the row of a kind of race.

    Args:
        row: the result.
        distances: of the models by name.
    """
    wrong = [_percent(row[key]["wrong"]) for key in ("race", "naive peeking")]
    fixed = row.get("fixed", {})
    saved = [
        f"{100 * fixed[key]['saving']:.0f} %".replace("-", "\N{MINUS SIGN}") if key in fixed else "" for key in FIXED
    ]
    return _format_row(
        [_describe_race(row, distances), f"{row['races']:,}", *wrong, f"{row['race']['median_images']:,.0f}", *saved]
    )


def _describe_race(row, distances):
    names = row["models"]
    design = "" if row["design"] == "independent" else f", {row['design']}"
    if names[0].startswith(CLASS_PREFIX):
        classes = [name.removeprefix(CLASS_PREFIX) for name in names]
        models = ", ".join(dict.fromkeys(classes)) if len(classes) < 5 else f"{len(classes)} classes"
        return f"CIFAR-10{design}: {models}" + (" twice" if len(set(classes)) == 1 else "")
    features, dims = _split_name(names[0])
    gaps = Counter(round(100 * (distances[name] / distances[names[0]] - 1)) for name in names[1:])
    others = [f"{count} {f'{gap} % worse' if gap else 'equal'}" for gap, count in gaps.items()]
    return f"{features}, {dims}{design}: 1 and {', '.join(others)}"


def _split_name(name):
    """Return the features and the number of dimensions of a model."""
    if name.startswith(CLASS_PREFIX):
        return f"CIFAR-10, {name.removeprefix(CLASS_PREFIX)}", str(CLASS_DIMS)
    features, dims, _ = name.rsplit(" ", 2)
    return features, dims


def _percent(share):
    return f"{100 * share:.1f} %"


def _format_row(cells):
    return f"| {' | '.join(cells)} |"

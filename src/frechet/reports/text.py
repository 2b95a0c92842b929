"""Format scores for a terminal: one table, the provenance once, the distinct warnings, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from frechet._internal.terminal import escape_line
from frechet._internal.words import count_of, join_words
from frechet.distances.interval import SIGNIFICANCE_LEVEL
from frechet.metrics import METRICS, is_frechet_distance
from frechet.reports.protocol_facts import iter_protocol_facts
from frechet.reports.tables import align_columns
from frechet.results import INTERVAL_NOT_REQUESTED, Score, Scores

_DIRECTIONS = {True: "↓", False: "↑", None: "→ 0"}


def format_scores(scores: Scores) -> str:
    """Format scores as a table, followed by what they were computed from, by classes and by influential images.

    Control characters (in names of files and classes, and in the metadata of statistics files) are escaped.
    """
    scores, qualification = _shorten_labels(scores)
    facts = [*iter_facts(scores, qualification), *iter_protocol_facts(scores)]
    width = max((len(name) for name, _ in facts), default=0)
    columns = tabulate_scores(scores)
    table = align_columns([tuple(columns), *zip(*columns.values(), strict=True)])
    lines = [*table, "", *(f"{name:<{width}}  {text}" for name, text in facts)]
    for score in scores.values():
        lines += [*_format_classes(score), *_format_influential_images(score)]
    return "\n".join(map(escape_line, lines))


def _shorten_labels(scores: Scores) -> tuple[Scores, str]:
    """Remove the qualification in parentheses that all labels end with, and return it without the parentheses."""
    endings = {score.label.partition(" (")[2] for score in scores.values()}
    if len(endings) != 1 or not (ending := endings.pop()).endswith(")"):
        return scores, ""
    shortened = {key: replace(score, label=score.label.removesuffix(f" ({ending}")) for key, score in scores.items()}
    return scores.with_scores(shortened), ending.removesuffix(")")


def collect_warnings(scores: Scores) -> list[str]:
    """Return the distinct warnings of all scores, in order."""
    return list(dict.fromkeys(warning for score in scores.values() for warning in score.warnings))


def suggest_next_step(scores: Scores) -> str | None:
    """Return a line that explains how to halve an interval, or how to find the images to blame, if any applies."""
    if all(score.worst_pairs for score in scores.values()):
        return (
            "hint: list the worst pairs with --json, or add rfid to the metrics and show them with --report page.html"
        )
    for score in scores.values():
        if counts := format_counts_to_halve_interval(score):
            return f"hint: to halve the confidence interval of {score.label}, use about {counts} images"
    if any(map(_can_list_images, scores.values())) and not any(iter_interval_notes(scores)):
        return "hint: list the images that hurt the score most with --explain 20, or show them with --report page.html"
    return None


def iter_interval_notes(scores: Scores) -> Iterator[str]:
    """Yield a line for each reason why scores have no interval, unless the reason holds for any images."""
    labels: dict[str, list[str]] = {}
    for score in _shorten_labels(scores)[0].values():
        metric = METRICS.get(score.metric.partition("@")[0])
        reason = score.interval_unavailable_reason
        if metric and reason and reason not in (INTERVAL_NOT_REQUESTED, metric.interval_unavailable_reason):
            labels.setdefault(reason, []).append(score.label)
    for reason, of in labels.items():
        yield f"note: no confidence interval for {join_words(of)}: {reason}"


def _can_list_images(score: Score) -> bool:
    """Return whether --explain would list influential images that are not listed yet: of a Fréchet distance of images."""
    read_images = score.provenance.get("backend") is not None  # rather than statistics or features
    return read_images and is_frechet_distance(score.metric) and not score.influence


def format_number(value: float) -> str:
    """Format a number with four significant digits, and without an exponent if it is large."""
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"


def tabulate_scores(scores: Scores) -> dict[str, list[str]]:
    """Return the cells of each column, one per score; columns that would be empty are left out."""
    columns = {
        "metric": [score.label for score in scores.values()],
        "value": [_format_value(score) for score in scores.values()],
        "bias-corrected": [_format_corrected(score) for score in scores.values()],
        "95 % CI": [_format_interval(score) for score in scores.values()],
        "better": [_DIRECTIONS[score.lower_is_better] for score in scores.values()],
    }
    for split in sorted({row["n"] for score in scores.values() if len(score.splits) > 1 for row in score.splits}):
        columns[count_of(int(split), "split")] = [_format_split(score, split) for score in scores.values()]
    return {name: cells for name, cells in columns.items() if any(cells)}


def _format_value(score: Score) -> str:
    return format_number(score.value) + (f" ± {format_number(score.std)}" if score.std is not None else "")


def _format_corrected(score: Score) -> str:
    """Return the bias-corrected value, or nothing if the metric has no bias."""
    is_biased = score.corrected_value is not None and score.corrected_value != score.value
    return format_number(score.corrected_value) if is_biased and score.corrected_value is not None else ""


def _format_interval(score: Score) -> str:
    return " to ".join(map(format_number, score.interval_95)) if score.interval_95 else ""


def _format_split(score: Score, n: float) -> str:
    found = [row for row in score.splits if row["n"] == n and len(score.splits) > 1]
    return f"{format_number(found[0]['mean'])} ± {format_number(found[0]['std'])}" if found else ""


def iter_facts(scores: Scores, qualification: str = "") -> Iterator[tuple[str, str]]:
    """Yield (name, text) of what the scores have in common; several lines of a name if they differ in it.

    Args:
        scores: the scores.
        qualification: what was removed from all labels.
    """
    compared = [score for score in scores.values() if score.uses_reference] or list(scores.values())
    with_interval = [score for score in scores.values() if score.interval_95 is not None]
    yield from _group("images", {score.label: format_images(score) for score in compared})
    yield from _group("features", {score.label: _format_features(score, qualification) for score in scores.values()})
    yield from _group("crop", {score.label: crop for score in compared if (crop := _format_crops(score))})
    yield from _group(
        "95 % CI",
        {score.label: f"for {score.estimand}" for score in with_interval if score.estimand},
    )
    yield from _group("looks", {score.label: _format_looks(score) for score in with_interval if score.looks})
    yield from _group(
        "sampling",
        {score.label: str(score.sampling_design) for score in with_interval if score.sampling_design != "independent"},
    )
    yield from _group(
        "permutation test",
        {
            score.label: format_test(score.permutation_p_value)
            for score in with_interval
            if score.permutation_p_value is not None
        },
    )
    shuffled = {score.label: score.terms["shuffled"] for score in scores.values() if "shuffled" in score.terms}
    yield from _group(
        "shuffled", {label: f"{format_number(value)} for images in random order" for label, value in shuffled.items()}
    )
    yield from _group("±", {score.label: _format_spread(score) for score in scores.values() if score.std is not None})


def _group(name: str, texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each distinct text once, with the labels of the scores that it is about if there are several texts."""
    labels: dict[str, list[str]] = {}
    for label, text in texts.items():
        labels.setdefault(text, []).append(label)
    for text, of in labels.items():
        yield name, text if len(labels) == 1 else f"{', '.join(of)}: {text}"


def format_images(score: Score) -> str:
    """Return the numbers of images, or that they are unknown."""
    counts = {"generated": score.n_generated, "reference": score.n_reference if score.uses_reference else 0}
    return ", ".join(
        f"unknown number of {kind} images" if n is None else f"{n:,} {kind}" for kind, n in counts.items() if n != 0
    )


def format_counts_to_halve_interval(score: Score) -> str:
    """Return how many images would halve the interval, without those of a fixed reference; an empty text if it is not known."""
    counts = dict(zip(("generated", "reference"), score.n_to_halve_interval or (), strict=False))
    if score.reference_is == "fixed":
        counts.pop("reference", None)
    return " and ".join(f"{n:,} {kind}" for kind, n in counts.items() if n is not None)


def _format_features(score: Score, qualification: str) -> str:
    names = {"extractor": "", "layer": "layer ", "preprocessing": "preprocessing ", "precision": ""}
    known = [f"{prefix}{score.provenance[name]}" for name, prefix in names.items() if score.provenance.get(name)]
    return ", ".join([*known, qualification] if qualification else known) or "unknown"


def _format_crops(score: Score) -> str:
    sides = ("generated", "reference") if score.uses_reference else ("generated",)
    crops = {name: (score.provenance.get(name) or {}).get("crop") for name in sides}
    return ", ".join(f"{crop or 'none'} ({name})" for name, crop in crops.items()) if any(crops.values()) else ""


def _format_looks(score: Score) -> str:
    return f"{len(score.looks)}, after {score.looks[0]['n']:,} to {score.looks[-1]['n']:,} images; the CI holds at all of them together"


def format_test(p_value: float) -> str:
    """Return the result of the permutation test, which is only made if the interval reaches 0."""
    if p_value > SIGNIFICANCE_LEVEL:
        return f"no significant difference (p = {p_value:.3f})"
    return f"significant difference (p = {p_value:.3f}); the CI reaches 0, near which this test has more power"


def _format_spread(score: Score) -> str:
    return f"standard deviation between {f'{len(score.repeats)} runs' if score.repeats else 'splits or subsets'}"


def _format_classes(score: Score) -> Iterator[str]:
    if score.per_class:
        mean = sum(score.per_class.values()) / len(score.per_class)
        yield f"{score.label} per class (mean of {len(score.per_class)}: {format_number(mean)})"
        yield from (f"  {line}" for line in align_columns(_class_rows(score)))


def _class_rows(score: Score) -> list[tuple[str, str]]:
    return [(name, format_number(value)) for name, value in score.per_class.items()]


def _format_influential_images(score: Score) -> Iterator[str]:
    for direction in ("raise", "lower"):
        images = (score.influence or {}).get(direction, [])
        if images:
            yield (
                f"images that {direction} {score.label} most (change if the image is removed, split into mean and covariance terms)"
            )
            rows = [(f"{row['change']:+.3g}", f"{row['mean']:+.3g}", f"{row['covariance']:+.3g}") for row in images]
            lines = align_columns([("change", "mean", "covariance"), *rows])
            names = ["image", *(row["image"] for row in images)]
            yield from (f"  {line}  {name}" for line, name in zip(lines, names, strict=True))

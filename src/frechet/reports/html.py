"""Write a self-contained HTML report: scores, diagnostics, images and provenance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frechet._internal.atomic_write import atomic_write, check_output_path
from frechet._internal.fields import name_option
from frechet.errors import RequestError
from frechet.evaluation.aggregate import merge_extractors, split_by_extractor, split_pair_metrics
from frechet.evaluation.inputs import buffer_iterators, cache_generated_images
from frechet.evaluation.plan import require_used_options
from frechet.evaluation.protocol_run import prepare_protocol
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import Evaluation, evaluate, score_or_error
from frechet.reports.command_line import format_command
from frechet.reports.page_template import require_packages
from frechet.reports.report_page import render_report_page


def evaluate_for_report(request: ScoreRequest, path: Path, *, force: bool = False) -> Evaluation:
    """Compute the scores of a request, after checking that a page about them can be written.

    Args:
        request: what to score. It needs a reference, and it may not be repeated.
        path: the page to write, ending in .html.
        force: whether an existing file is overwritten.

    Returns:
        The scores, and the statistics of the first extractor, with the features of every image if they are available.

    Raises:
        RequestError: the request has no reference or is repeated, or a package that draws the page is missing.
        OutputError: the page cannot be written to `path`.
    """
    require_packages()
    check_output_path(path, suffix=".html", force=force)
    if request.reference is None and request.protocol is None:
        raise RequestError(
            "a report compares generated images with a reference, and no reference is given; pass reference images"
        )
    if request.repeat != 1:
        raise RequestError(
            f"a report describes a single run, but {name_option('repeat')} is {request.repeat}; leave out one of them"
        )
    require_used_options(request)
    if request.protocol is None:
        return _evaluate_parts(request, [request])
    protocol_run = prepare_protocol(request)
    evaluation = _evaluate_parts(request, protocol_run.requests)
    return evaluation._replace(scores=protocol_run.finish(evaluation.scores))


def _evaluate_parts(request: ScoreRequest, requests: Sequence[ScoreRequest]) -> Evaluation:
    """Compute the scores of every extractor and of pairs of images; the page shows diagnostics of the first extractor.

    Args:
        request: what was requested.
        requests: what to compute, with the inputs of the request.

    Raises:
        RequestError: all metrics are those of pairs, or the first extractor cannot be used.
    """
    if sum(len(split_by_extractor(each)) for each in requests) > 1:  # several read the same images
        requests = [cache_generated_images(buffer_iterators(each)) for each in requests]
    first, *others = [part for each in requests for part in split_by_extractor(each)]
    if split_pair_metrics(first)[1] is None:
        raise RequestError(
            "a report describes features, and all metrics compare pixels; add a metric of features, e.g. --metrics "
            f"rfid,{','.join(request.metric_names or ())}"
        )
    evaluation = evaluate(first, keep_features=True)
    if not others:
        return evaluation
    results = [(first, evaluation.scores), *((each, score_or_error(each)) for each in others)]
    return evaluation._replace(scores=merge_extractors(request, results))


def write_report(evaluation: Evaluation, request: ScoreRequest, path: Path, *, force: bool = False) -> None:
    """Write an HTML page about the scores of a request.

    Args:
        evaluation: what `evaluate_for_report` returned.
        request: what was scored.
        path: the page to write, ending in .html.
        force: whether an existing file is overwritten.

    Raises:
        OutputError, RunError: the page cannot be written to `path`.
    """
    page = render_report_page(evaluation, request, format_command(request, evaluation.scores))
    with atomic_write(path, suffix=".html", force=force) as temporary_path:
        temporary_path.write_text(page, encoding="utf-8", errors="backslashreplace")  # file names need not be Unicode

"""The command line that computes the same scores again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from frechet._internal.fields import option_fields
from frechet._internal.remote_files import is_url, redact_url
from frechet.evaluation.plan import is_pair_metric
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.until import Until
from frechet.networks import inception, lpips
from frechet.networks.weights_file import find_weights
from frechet.results import Scores

_EXECUTION_OPTIONS = ("cache", "work_dir", "engine", "rendezvous_timeout", "ray_address")  # change no score


def format_command(request: ScoreRequest, scores: Scores) -> str:
    """Return the command line that computes the same scores on another machine.

    Options about the execution and about output files are left out. Weights that an environment variable named are
    included.

    Args:
        request: what was scored. An input that is not a path or URL is shown by its type.
        scores: its scores.
    """
    words = ["frechet", "score", _format_argument(request.generated)]
    words += [] if request.reference is None else [_format_argument(request.reference)]
    for each in option_fields(type(request)):
        value, flag = getattr(request, each.name), f"--{each.name.replace('_', '-')}"
        if each.name in _EXECUTION_OPTIONS or value in (None, False, each.default):
            continue
        words += [flag] if value is True else [flag, _format_value(value)]
    if request.until is not None:
        words += _format_until(request.until)
    variables = dict(_iter_variables(scores))
    extractors = {each.provenance.get("extractor") for each in scores.values() if not is_pair_metric(each.metric)}
    if inception.WEIGHTS.env_variable in variables and len(extractors) == 1:
        del variables[inception.WEIGHTS.env_variable]
        if request.weights is None:
            words += ["--weights", str(find_weights(inception.WEIGHTS))]
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(words)])


def _iter_variables(scores: Scores) -> Iterator[tuple[str, str]]:
    """Yield the environment variables that named weights with which scores were computed."""
    networks = {"inception": inception.WEIGHTS}
    networks |= {f"lpips-{each.title.lower()}": each.file for each in lpips.NETWORKS.values()}
    for score in scores.values():
        file = networks.get(str(score.provenance.get("extractor")))
        ran_network = score.provenance.get("backend") is not None or is_pair_metric(score.metric)
        if file and file.env_variable and ran_network and (value := os.environ.get(file.env_variable)):
            yield file.env_variable, value


def _format_until(until: Until) -> list[str]:
    half_width = f"{100 * until.half_width:.12g}%" if until.relative else f"{until.half_width:.12g}"
    max_images = [] if until.max_images is None else ["--max-images", str(until.max_images)]
    return ["--until-half-width", half_width, *max_images]


def _format_value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else _format_argument(value)


def _format_argument(value: object) -> str:
    if is_url(value):
        return redact_url(str(value))
    return str(value) if isinstance(value, (str, os.PathLike, int)) else f"<{type(value).__name__}>"

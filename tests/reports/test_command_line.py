"""The command line that computes the same scores again."""

import shlex

import numpy as np
import pytest
from helpers import parse_options

from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.until import Until
from frechet.reports.command_line import format_command
from frechet.results import Score, Scores


def make_scores(*extractors, backend="torch"):
    """Return scores of these extractors; that of LPIPS is one of pairs."""
    scores = {}
    for extractor in extractors:
        of_pairs = extractor.startswith("lpips")
        metric = "lpips" if of_pairs else "kid" if scores else "fd"
        provenance = {"extractor": extractor, "backend": None if of_pairs else backend}
        scores[metric] = Score(metric=metric, label=metric, value=1.0, provenance=provenance)
    return Scores(scores, {})


def test_credentials_are_hidden_and_arrays_shown_by_their_type():
    request = ScoreRequest(np.zeros(3), "https://me:secret@example.org/r.npz?token=1", dims=64, seed=0)
    command = format_command(request, Scores({}, {}))
    assert command == "frechet score '<ndarray>' 'https://example.org/r.npz?...' --dims 64"


@pytest.mark.parametrize("is_folder", [False, True])
def test_weights_from_the_environment_are_included(monkeypatch, tmp_path, is_folder):
    path = tmp_path / "my weights.pth"
    monkeypatch.setenv("FRECHET_WEIGHTS", str(tmp_path if is_folder else path))
    request = ScoreRequest("a", "b", dims=64)
    words = shlex.split(format_command(request, make_scores("inception")))
    expected = tmp_path / "pt_inception-2015-12-05-6726825d.pth" if is_folder else path
    assert words == ["frechet", "score", "a", "b", "--dims", "64", "--weights", str(expected)]
    for scores in (make_scores("efficientnet-lite0"), make_scores("inception", backend=None)):  # they do not read them
        assert "weights" not in format_command(request, scores)
    given = format_command(ScoreRequest("a", "b", weights="other.pth"), make_scores("inception"))
    assert given == "frechet score a b --weights other.pth"
    monkeypatch.delenv("FRECHET_WEIGHTS")
    assert format_command(request, make_scores("inception")) == "frechet score a b --dims 64"


def test_weights_that_no_option_sets_are_included_as_variables(monkeypatch):
    """--weights is that of the first extractor, and LPIPS has no option."""
    monkeypatch.setenv("FRECHET_WEIGHTS", "a folder/w.pth")
    monkeypatch.setenv("FRECHET_LPIPS_WEIGHTS", "alex.pth")
    request = ScoreRequest("a", "b", metrics=["fid", "lpips"])
    command = "frechet score a b --metrics fid,lpips"
    found = format_command(request, make_scores("inception", "lpips-alexnet"))
    assert found == f"FRECHET_LPIPS_WEIGHTS=alex.pth {command} --weights 'a folder/w.pth'"
    found = format_command(request, make_scores("dinov2-vitl14", "inception", "lpips-alexnet"))
    assert found == f"FRECHET_WEIGHTS='a folder/w.pth' FRECHET_LPIPS_WEIGHTS=alex.pth {command}"


@pytest.mark.parametrize("until", [Until(half_width=0.07, max_images=500), Until(half_width=0.2, relative=False)])
def test_the_stopping_rule_is_included(until):
    words = shlex.split(format_command(ScoreRequest("a", "b", until=until), Scores({}, {})))[2:]
    options = parse_options("score", words)
    assert Until.from_text(options["until_half_width"], options["max_images"]) == until


def test_options_about_the_execution_are_left_out():
    request = ScoreRequest("a", "b", cache=True, work_dir="run", engine="ray", ray_address="auto", rendezvous_timeout=9)
    assert format_command(request, Scores({}, {})) == "frechet score a b"

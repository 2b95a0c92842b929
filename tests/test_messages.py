"""Messages of errors: no full stop after one sentence and one after several, and options by their names on the command line."""

import ast
import re

import pytest
from helpers import ROOT

from frechet._internal.fields import option_fields
from frechet.evaluation.diagnosis.request import DiagnoseRequest
from frechet.evaluation.race_request import RaceRequest
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import CollectRequest

SOURCES = sorted((ROOT / "src" / "frechet").rglob("*.py"))
SENTENCE_BREAK = re.compile(r"(?<!e\.g)(?<=[A-Za-z0-9)\]}'`\"])[.?] (?=[A-Z{`])")
CODE_TO_COPY = re.compile(
    r"[)\]}`'\"]$|: [^ ]+( [^ ]+)*$|--[a-z-]+ \S+$|\.npz$"
)  # the end of a message that has no full stop


def iter_messages(tree):
    """Yield (line, text) of every message that is written out where it is raised; values become {}."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            message = node.exc.args[0]
            if isinstance(message, ast.JoinedStr):
                pieces = (each.value if isinstance(each, ast.Constant) else "{}" for each in message.values)
                yield message.lineno, "".join(map(str, pieces))
            elif isinstance(message, ast.Constant) and isinstance(message.value, str):
                yield message.lineno, message.value


def find_fault(message):
    """Return what is wrong with the end of a message, or None."""
    has_stop, is_several = message.endswith("."), bool(SENTENCE_BREAK.search(message))
    if has_stop and not is_several and not message.endswith("..."):
        return "a single sentence with a full stop"
    if is_several and not has_stop and not CODE_TO_COPY.search(message):
        return "several sentences without a full stop at the end"
    return None


@pytest.mark.parametrize(
    ("message", "is_right"),
    [
        ("size is 0; expected 1", True),
        ("size is 0; expected 1.", False),
        ("size is 0. Pass 1.", True),
        ("size is 0. Pass another one", False),
        ("got (n, 3, h, w). Pass x.transpose(0, 2, 3, 1)", True),
    ],
)
def test_the_rule(message, is_right):
    assert (find_fault(message) is None) == is_right


@pytest.mark.slow
def test_messages_end_uniformly():
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {fault}: {message}"
        for path in SOURCES
        for line, message in iter_messages(ast.parse(path.read_text()))
        if (fault := find_fault(message))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_messages_about_options_name_them_as_on_the_command_line():
    """`name_option` also names the keyword. Packages without commands may name the keyword only, and so may messages about values that
    only Python has, such as "strata has 60 entries"."""
    requests = (ScoreRequest, CollectRequest, RaceRequest, DiagnoseRequest)
    options = {each.name for request in requests for each in option_fields(request)}
    keyword_first = re.compile(rf"({'|'.join(sorted(options))}) (is|applies|needs) ")
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {message}"
        for folder in ("backends", "cli", "distances", "evaluation", "execution", "metrics", "reports", "statistics")
        for path in sorted((ROOT / "src" / "frechet" / folder).rglob("*.py"))
        for line, message in iter_messages(ast.parse(path.read_text()))
        if keyword_first.match(message)
    ]
    assert not faults, "\n".join(faults)

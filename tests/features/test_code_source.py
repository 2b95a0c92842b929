"""The identity of code is the same in each version of Python, and depends only on what the code does."""

import importlib.util
import linecache

import pytest

from frechet.features.code_source import find_used_names, hash_source

SOURCE = '''
import json.decoder

SCALE = 2.0
config = {"scale": 1}


def function(x, y=SCALE, *rest, key: int = 3, **others) -> float:
    """A docstring."""
    number: int = x.mean() * SCALE  # a comment

    def inner(z, shift=4):
        "Another docstring"
        return z + number + shift

    class Local:
        width: int = SCALE

    try:
        text = f"{y!r:>{key}} {x}"
    except (ValueError, TypeError) as error:
        raise KeyError(text) from error
    finally:
        pass
    with open(text) as file:
        values = [inner(line) for line in file if line in (1, 2) or line not in {"a", "b"}]
    match values:
        case {"a": 1, **remaining}:
            return remaining
        case [1, _, *last]:
            return last
    values[1:2, ...] += (yield -1j), lambda u: u if u else b"u"
    return config["scale"], json.decoder.NaN, (w := None)


async def asynchronous(x):
    async with x as y:
        return [await each async for each in y]
'''


@pytest.fixture
def load(tmp_path):
    """Return a function that imports a source code, which is not run."""

    def load(text, name="module"):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def digest(function):
    return hash_source(function.__code__, function.__globals__)


def test_code_has_the_same_identity_in_each_version_of_python(load):
    module = load(SOURCE)
    assert digest(module.function) == "a8ffe01ba12489d7d45eebe1196fb588f54a09cb6c4f031d6d1e7afef44a17f0"
    assert digest(module.asynchronous) == "c58d2587a981690d46889a9d0c1a35914c24846867f36bc27a7c61beab5532d9"


def test_names_that_code_loads(load):
    used = find_used_names(load(SOURCE).function.__code__)
    assert used.global_names["config"] == {(("item", "scale"),)}
    assert used.global_names["SCALE"] == {()}
    assert used.global_names["json"] == {(("attribute", "decoder"), ("attribute", "NaN"))}
    assert "mean" not in used.global_names
    assert not used.free_names


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", ""),
        ("A docstring", "Other"),
        ("Another docstring", "Other"),
        ("number: int =", "number ="),
        ("key: int = 3", "key = 3"),
        (" -> float", ""),
        ("\n\n    try", "\n    # a line\n\n    try"),
        ("'a', 'b'", '"a", "b"'),
    ],
)
def test_edits_without_effect(load, old, new):
    source = SOURCE.replace('"a", "b"', "'a', 'b'")
    assert old in source
    assert digest(load(source.replace(old, new)).function) == digest(load(SOURCE, "first").function)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x.mean() * SCALE", "x.mean() * scale"),
        ("shift=4", "shift=5"),
        ("(1, 2)", "(1, 3)"),
        ("number + shift", "number - shift"),
        ("u if u else", "u if not u else"),
        ("!r:>", "!s:>"),
        ("*rest, ", "*, "),
        ("1:2", "1:3"),
        ("1j", "2j"),
        ("finally:\n        pass", "finally:\n        y"),
    ],
)
def test_edits_with_an_effect(load, old, new):
    assert old in SOURCE
    assert digest(load(SOURCE.replace(old, new)).function) != digest(load(SOURCE, "first").function)


def test_lambdas_in_one_line_are_different_functions(load):
    one, two = load("pair = (lambda x: x + 1, lambda x: x + 2)\n").pair
    assert digest(one) != digest(two)


def test_cells_of_a_notebook_are_identified_by_their_source(load):
    def run_cell(text, name):
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        names = {}
        exec(compile(text, name, "exec"), names)
        return names["net"]

    one = run_cell("def net(x):\n    return x * 2  # twice\n", "<ipython-input-1-abc>")
    two = run_cell("x = 1\ndef net(x):\n    'Twice.'\n    return x * 2\n", "<ipython-input-2-abc>")
    assert digest(one) == digest(two) == digest(load("def net(x):\n    return x * 2\n").net)

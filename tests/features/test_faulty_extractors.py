"""Extractors that cannot be imported, raise, exit or return something else: one sentence, and exit code 2."""

import sys

import numpy as np
import pytest
from helpers import make_image_folder, run

import frechet
from frechet.errors import NonFiniteFeaturesError, RequestError, RunError
from frechet.features.loading import load_extractor

pytest.importorskip("torch")

MODULE = """
import sys
import torch

def raises(images):
    raise KeyError("inside")
def exits(images):
    sys.exit(7)
def returns_none(images):
    return None
def returns_text(images):
    return "features"
def returns_dict(images):
    return {"features": images}
def returns_ragged(images):
    return [[1.0], [1.0, 2.0]]
def returns_other_count(images):
    return torch.zeros(len(images) + 1, 3)
def returns_nothing_per_image(images):
    return torch.zeros(len(images), 0)
def has_text_as_size(images):
    return torch.zeros(len(images), 3)
has_text_as_size.input_size = "large"
def has_negative_size(images):
    return torch.zeros(len(images), 3)
has_negative_size.input_size = -1
class Network:
    def __init__(self):
        raise OSError("no file")
number = 5
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Modules that can be imported, and two that cannot."""
    (tmp_path / "faulty_extractors.py").write_text(MODULE)
    (tmp_path / "raises_at_import.py").write_text("raise ZeroDivisionError('at import')")
    (tmp_path / "exits_at_import.py").write_text("import sys; sys.exit('bye')")
    (tmp_path / "not_python.py").write_text("def (")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("faulty_extractors", "raises_at_import", "exits_at_import", "not_python"):
        sys.modules.pop(name, None)


FUNCTIONS = [line.split()[1].partition("(")[0] for line in MODULE.splitlines() if line.startswith("def ")]
NAMES = [
    ":x",
    "x:",
    ":",
    ".x:y",
    "no_such_module:x",
    "os:no_such_attribute",
    "raises_at_import:x",
    "exits_at_import:x",
    "not_python:x",
    "faulty_extractors:number",
    "faulty_extractors:Network",
    *(f"faulty_extractors:{name}" for name in FUNCTIONS),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_faulty_extractor_is_an_invalid_request(modules, name):
    with pytest.raises(RequestError):
        load_extractor(name)


@pytest.mark.parametrize(
    "name", [":x", "exits_at_import:x", "faulty_extractors:exits", "faulty_extractors:returns_none"]
)
def test_the_command_line_prints_one_error(modules, tmp_path, name):
    folder = make_image_folder(tmp_path / "images")
    code, out, err = run("score", folder, folder, "--extractor", name)
    assert code == 2
    assert out == ""
    assert err.count("error:") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("result", "error"), [(SystemExit, RunError), (ValueError, RunError), (None, NonFiniteFeaturesError)]
)
def test_a_fault_after_the_first_images_is_a_failed_run(tmp_path, result, error):
    import torch

    def extractor(images):
        if (images > -0.99).any():  # -1 is black, the image that measures the number of features
            if result is not None:
                raise result("later")
            return None
        return torch.zeros(len(images), 3)

    extractor.input_size = 4
    images = list(np.random.default_rng(0).integers(1, 256, (8, 4, 4, 3), np.uint8))
    with pytest.raises(error):
        frechet.collect(images, extractor=extractor, preprocessing="pytorch-fid")

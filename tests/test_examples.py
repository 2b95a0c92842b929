"""The examples run, at a small size, and the notebook is committed as it ran."""

import dataclasses
import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "train_on_fd.ipynb"

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="a source distribution has no examples")


@pytest.fixture(autouse=True)
def at_home(monkeypatch, tmp_path):
    """Examples import each other, draw without a screen and write where they are started."""
    mpl.use("agg")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code_cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_noise_goes_down_the_distance_and_is_drawn(at_home):
    import adversarial_noise

    curve = adversarial_noise.main(["--images", "4", "--reference", "16", "--steps", "4"])
    assert len(curve) == 5
    assert curve[-1] < curve[0]
    assert np.asarray(Image.open(at_home / "adversarial-noise.png").convert("RGB")).std() > 10


def test_the_notebook_runs(at_home):
    import train_on_fd

    names = {}
    for cell in code_cells():
        exec("".join(cell["source"]).replace("SIZE = FULL", "SIZE = SMALL"), names)  # what a kernel does
    assert names["SIZE"] == train_on_fd.SMALL
    assert len(names["curve"]) == train_on_fd.SMALL.steps
    for scores in names["verdicts"].values():
        assert all(np.isfinite(score.value) for score in scores.values())


def test_fine_tuning_lowers_the_loss_of_fresh_images():
    import torch
    import train_on_fd
    from frechet.losses.torch import FIDLoss

    ...

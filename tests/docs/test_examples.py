"""The examples run with small settings, and the notebook is committed with its outputs."""

import json
import re

import matplotlib as mpl
import numpy as np
import pytest
import torch
from helpers import ROOT
from PIL import Image

from frechet.losses.torch import FIDLoss

EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "train_on_fd.ipynb"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXAMPLES.exists(), reason="a source distribution has no examples"),
]


@pytest.fixture(autouse=True)
def example_directory(monkeypatch, tmp_path):
    """Run examples in a temporary directory, with a plotting backend that needs no display."""
    mpl.use("agg")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code_cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def read_printed_output():
    outputs = [output for cell in code_cells() for output in cell["outputs"]]
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def test_adversarial_noise_lowers_the_distance_and_saves_a_figure(example_directory):
    import adversarial_noise

    curve = adversarial_noise.main(["--images", "4", "--reference", "16", "--steps", "3"])
    assert len(curve) == 4
    assert curve[-1] < curve[0]
    assert np.asarray(Image.open(example_directory / "adversarial-noise.png").convert("RGB")).std() > 10


def test_fine_tuning_lowers_the_loss_of_new_latents():
    import train_on_fd

    torch.manual_seed(0)
    loss = FIDLoss(train_on_fd.load_photographs(12, seed=0), extractor="efficientnet-lite0")
    generator = train_on_fd.Generator()
    before = loss(train_on_fd.generate_samples(generator, 8, seed=1)).item()
    curve = train_on_fd.finetune(generator, loss, steps=6, batch=8, learning_rate=3e-4)
    assert len(curve) == 6
    assert loss(train_on_fd.generate_samples(generator, 8, seed=1)).item() < before


def test_the_notebook_runs():
    names = {}
    for cell in code_cells():
        exec("".join(cell["source"]).replace("BUDGET = FULL_BUDGET", "BUDGET = SMALL_BUDGET"), names)
    assert names["BUDGET"] == names["SMALL_BUDGET"]
    assert {name: len(curve) for name, curve in names["curves"].items()} == {"FIDLoss": 2, "FDLoss": 2}
    assert all(list(history) == [0, 1, 2] for history in names["histories"].values())
    for scores in names["scores_by_images"].values():
        assert all(np.isfinite(score.value) for score in scores.values())
    table = names["format_table"](names["scores_by_images"])
    assert len(table.splitlines()) == 1 + 4 * 4  # a header, four judges x four sets of images


def test_the_notebook_is_committed_with_its_outputs():
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert "error" not in kinds
    assert "stderr" not in [output.get("name") for cell in cells for output in cell["outputs"]]
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", NOTEBOOK.read_text())
    for words in ("FDLoss  step  24", "corrected"):
        assert words in read_printed_output()
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]) >= 4


def test_the_readme_explains_every_example_and_quotes_the_notebook():
    page = (EXAMPLES / "README.md").read_text()
    for example in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")):
        assert example.name in page
    for image_ref in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page):
        assert (EXAMPLES / image_ref).exists()
    quoted = re.search(r"```text\n(features .*?)```", page, re.DOTALL).group(1)
    assert quoted in read_printed_output()

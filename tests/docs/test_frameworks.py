"""Programs of docs/frameworks.md and examples run in the frameworks that are installed, and log the value of frechet.score."""

import importlib.util
import os
import re

import pytest
from forks import TORCHRUN, ForkedProgram
from helpers import ROOT, make_image_folder

import frechet

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

PROGRAMS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "frameworks.md").read_text(), re.MULTILINE | re.DOTALL
)
CHECK = """
import frechet, numpy as np
value, found = {value}, np.asarray({images})
pixels = found if found.dtype == np.uint8 else np.round(found * 255).astype(np.uint8)
expected = frechet.fd(pixels, "reference.npz", interval="none").value
assert abs(value - expected) < 1e-4 * expected, (value, expected)
"""
LOGGED = {  # package -> the last value that its program logs, and the images (n, h, w, 3) that it is the value of
    "lightning": ("trainer.callback_metrics['fid'].item()", "model.generator(latents).detach().permute(0, 2, 3, 1)"),
    "transformers": (
        "[row['eval_fid'] for row in trainer.state.log_history if 'eval_fid' in row][-1]",
        "model(latents)['images'].detach().permute(0, 2, 3, 1)",
    ),
    "ignite": ("evaluator.state.metrics['fid']", "model(latents).detach().permute(0, 2, 3, 1)"),
    "keras": ("history.history['fid'][-1]", "model.predict(latents, verbose=0)"),
    "clu": ("metrics.compute()['fid']", "images"),
}


IN_TWO_PROCESSES = {  # package -> (text of its program, what it becomes with two processes)
    "lightning": ('accelerator="cpu"', 'accelerator="cpu", devices=2'),
    "transformers": ("", ""),
    "ignite": ("import torch\n", "import torch\ntorch.distributed.init_process_group('gloo')\n"),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    photos = make_image_folder(tmp_path_factory.mktemp("photos") / "photos", 12, size=(32, 32))
    return frechet.collect(photos, extractor="efficientnet-lite0")


@pytest.fixture
def desk(tmp_path, reference):
    """A folder with reference.npz."""
    reference.save(tmp_path / "reference.npz")
    return tmp_path


def read_program(package):
    """Return the program of a framework, with a check of its value, or skip the test."""
    pytest.importorskip("torchmetrics" if package in ("lightning", "transformers", "ignite") else "numpy")
    needed = [package, "jax"] if package in ("keras", "clu") else [package]
    if any(importlib.util.find_spec(name) is None for name in needed):
        pytest.skip(f"{package} is not installed")
    (program,) = (program for program in PROGRAMS if re.search(rf"^(import|from) {package}\b", program, re.MULTILINE))
    value, images = LOGGED[package]
    return program + CHECK.format(value=value, images=images)


def run_python(folder, program, *arguments):
    """Run a program, which is a path or text, and return what it prints."""
    environment = {
        "KERAS_BACKEND": "jax",
        "HF_HUB_OFFLINE": "1",
        "PATH": "",
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",  # as `accelerate launch --cpu` sets it
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(folder)),
    }
    return ForkedProgram(folder / "output.txt", program, *arguments, cwd=folder, environment=environment).finish()


@pytest.mark.parametrize("package", LOGGED)
def test_the_program_logs_the_value_of_the_score(package, desk):
    run_python(desk, read_program(package))


@pytest.mark.parametrize("package", IN_TWO_PROCESSES)
def test_two_processes_log_the_value_of_the_score(package, desk):
    given, used = IN_TWO_PROCESSES[package]
    program = read_program(package)
    assert given in program
    (desk / "program.py").write_text(
        program.replace(given, used, 1) + "\nassert torch.distributed.get_world_size() == 2\n"
    )
    run_python(desk, TORCHRUN, "program.py")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("plain_pytorch.py", ["--offline"]),
        ("accelerate_loop.py", ["--extractor", "efficientnet-lite0", "--images", "11", "--epochs", "1"]),
    ],
)
def test_examples_in_two_processes_print_the_value_of_one(name, arguments, desk):
    if name.startswith("accelerate"):
        pytest.importorskip("accelerate")
    example = ROOT / "examples" / name
    printed = [run_python(desk, *words, "reference.npz", *arguments) for words in ([example], [TORCHRUN, example])]
    one, two = ([float(number) for number in re.findall(r"(?<![\w-])\d+\.\d+", text)] for text in printed)
    assert one
    assert two == pytest.approx(one, rel=1e-5)

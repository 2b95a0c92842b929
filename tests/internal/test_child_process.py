"""Processes that serve this one: what they import, and what comes from them."""

import json
import os
import sys

import pytest

from frechet._internal.child_process import Pipe, start_child
from frechet.errors import RunError
from frechet.images import decode_worker
from frechet.images.shared_blocks import SharedBlocks

pytestmark = pytest.mark.subprocess


def ask(process):
    """Ask the decoding process for no files when it is ready, and return its answer."""
    pipe = Pipe(process.stdout, process.stdin)
    try:
        assert pipe.receive() == (decode_worker.READY, b"")
        pipe.send(decode_worker.REQUEST, json.dumps({"paths": [], "max_pixels": 100, "block": 0}).encode())
        return pipe.receive()
    finally:
        process.kill()
        process.communicate()


def start_worker():
    blocks = SharedBlocks(1, 4096)
    try:
        return start_child(decode_worker.__name__, {}, (str(blocks.file), "4096"), (blocks.file,))
    finally:
        blocks.close_file()


@pytest.mark.parametrize("module", ["json", "signal", "numpy", "frechet"])
def test_modules_in_the_working_directory_are_not_imported(module, tmp_path, monkeypatch):
    (tmp_path / f"{module}.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert ask(start_worker()) == (decode_worker.DECODED, b"[]")


def test_output_of_start_up_files_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("print('hello from a start-up file')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    with pytest.raises(RunError, match=r"printed b'hello fr'.*sitecustomize"):
        ask(start_worker())


@pytest.mark.parametrize(("name", "value"), [("executable", ""), ("executable", None), ("frozen", True)])
def test_programs_without_an_interpreter_start_no_process(name, value, monkeypatch):
    monkeypatch.setattr(sys, name, value, raising=False)
    with pytest.raises(RunError, match="expected a Python interpreter"):
        start_worker()

"""Named pipes, sockets and devices, and links to them, are rejected at once: reading them would block or never end."""

import os
import socket
import threading
from functools import partial

import numpy as np
import pytest
from helpers import run

import frechet
from frechet.errors import ImageDecodeError, RequestError, WeightsError
from frechet.images.decode import decode
from frechet.images.image import ImageRef
from frechet.images.sources.files import FileLoader
from frechet.networks.checkpoint import read_state_dict

SUFFIXES = (".npz", ".npy", ".zip", ".tar", ".parquet", ".h5", ".hdf5", ".arrow", ".lmdb", ".pkl", ".pt")
KINDS = {"fifo": "a named pipe", "socket": "a socket", "device": "a device", "link": "a named pipe"}


@pytest.fixture(params=KINDS)
def special_file(request, tmp_path):
    """A function that makes a special file of the given suffix, and what it is called."""

    def make(suffix):
        path = tmp_path / f"a{suffix}"
        if request.param == "fifo":
            os.mkfifo(path)
        elif request.param == "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.relpath(path))
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        else:
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to("pipe")
        return path

    return make, KINDS[request.param]


def call_within(seconds, function):
    """Call a function in a thread that may block, and return the error that it raised."""
    errors = []

    def call():
        try:
            function()
        except (RequestError, ImageDecodeError) as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "blocked"
    return errors[0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_special_file_is_not_read_as_a_side(special_file, suffix, tmp_path):
    make, kind = special_file
    path = make(suffix)
    np.save(tmp_path / "good.npy", np.zeros((4, 3), np.float32))
    for features in (False, True):
        error = call_within(60, partial(frechet.score, path, tmp_path / "good.npy", features=features))
        assert kind in str(error)
        assert "regular file" in str(error)


@pytest.mark.parametrize("suffix", [".npz", ".pkl", ".pt"])
def test_statistics_are_not_read_from_special_files(special_file, suffix):
    make, kind = special_file
    path = make(suffix)
    assert kind in str(call_within(60, lambda: frechet.read_statistics(path)))


def test_weights_are_not_read_from_special_files(special_file):
    make, kind = special_file
    path = make(".pth")
    error = call_within(60, lambda: read_state_dict(path))
    assert isinstance(error, WeightsError)
    assert kind in str(error)


def test_runs_are_not_read_from_special_files(special_file):
    make, kind = special_file
    path = make(".json")
    assert kind in str(call_within(60, lambda: frechet.compare_runs([path, path.with_name("b.json")])))


def test_the_command_line_rejects_them(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    code, out, err = run("score", tmp_path / "a.npz", tmp_path / "a.npz")
    assert (code, out) == (2, "")
    assert "is a named pipe" in err


def test_an_image_that_becomes_a_special_file_is_a_bad_image(special_file, tmp_path):
    for path in (str(special_file[0]("_2.png")), str(tmp_path)):
        error = call_within(20, lambda path=path: decode(ImageRef(0, "a.png", FileLoader(path))))
        assert str(error) == "a.png: is not a regular file"

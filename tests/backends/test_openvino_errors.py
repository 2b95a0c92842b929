"""Errors of OpenVINO while a network runs."""

import numpy as np
import pytest

from frechet.backends.openvino import OpenVINORunner
from frechet.errors import RunError


class Request:
    """An inference request that fails."""

    def __init__(self, message):
        self.message = message

    def set_input_tensor(self, _tensor):
        pass

    def start_async(self):
        pass

    def wait(self):
        raise RuntimeError(self.message)


@pytest.mark.parametrize(
    ("reason", "error", "words"),
    [
        ("Convolution node with name 'a' can't alloc", MemoryError, "can't alloc"),
        ("the graph is empty", RunError, "the graph is empty. Use another backend"),
    ],
)
def test_a_request_that_fails_is_reported(reason, error, words):
    runner = OpenVINORunner.__new__(OpenVINORunner)
    runner.requests = [Request(f"Exception from a.cpp:1:\n{reason}\n\n") for _ in range(2)]
    with pytest.raises(error, match=words):
        list(runner.map([np.zeros((1, 4, 4, 3), np.float32)] * 3))

"""Blocks of shared memory: used again when no array refers to them, seen by other processes, and kept as long as an array."""

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from frechet.images.shared_blocks import SharedBlocks, open_blocks

N_BYTES = 4096


@pytest.fixture
def blocks():
    blocks = SharedBlocks(3, N_BYTES)
    yield blocks
    blocks.close_file()


def test_a_block_is_free_when_the_last_array_is_deleted(blocks):
    first, second, third = (blocks.take() for _ in range(3))
    assert sorted(block.position for block in (first, second, third)) == [0, 1, 2]
    assert blocks.take() is None
    position, image = second.position, second.memory[10:40].reshape(2, 5, 3)
    del second
    assert blocks.take() is None  # the image is in it
    del image
    assert blocks.take().position == position


def test_the_block_that_was_given_back_last_is_used_first(blocks):
    taken = [blocks.take() for _ in range(3)]
    given_back = [taken.pop(1).position, taken.pop(0).position]
    again = [blocks.take(), blocks.take()]
    assert [block.position for block in again] == given_back[::-1]


def test_another_view_of_the_memory_sees_the_same_bytes(blocks):
    view, block = open_blocks(os.dup(blocks.file), N_BYTES), blocks.take()
    assert view.shape == (3, N_BYTES)
    view[block.position] = np.arange(N_BYTES) % 251
    np.testing.assert_array_equal(block.memory, np.arange(N_BYTES) % 251)


def test_arrays_outlive_the_blocks():
    blocks = SharedBlocks(1, N_BYTES)
    image = blocks.take().memory[:12]
    image[:] = 5
    blocks.close_file()
    del blocks
    assert image.tolist() == [5] * 12


def test_pythons_built_for_older_systems_call_the_c_library(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    blocks = SharedBlocks(2, N_BYTES)
    view, block = open_blocks(os.dup(blocks.file), N_BYTES), blocks.take()
    view[block.position] = 3
    assert (block.memory == 3).all()
    assert not os.get_inheritable(blocks.file)
    blocks.close_file()


def test_a_c_library_without_such_memory_is_an_oserror(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **options: object())
    with pytest.raises(OSError, match="without a name"):
        SharedBlocks(2, N_BYTES)


def test_memory_that_the_system_refuses_is_an_error_and_leaves_no_file(monkeypatch):
    def refuse(*_):
        raise OSError("no memory")

    before = sorted(Path("/proc/self/fd").iterdir())
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(OSError, match="no memory"):
        SharedBlocks(1, N_BYTES)
    assert sorted(Path("/proc/self/fd").iterdir()) == before

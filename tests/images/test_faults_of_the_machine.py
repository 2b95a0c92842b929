"""A machine that runs out of something does not make an image bad, so `on_bad_image="skip"` does not skip it."""

import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from helpers import make_image_folder
from PIL import Image
from toy import TOY

from frechet.errors import ImageDecodeError, RunError
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.image import ImageSource
from frechet.images.sources.registry import open_source


class FailingSource(ImageSource):
    """Grey images, except for one that raises an error."""

    def __init__(self, error):
        super().__init__("images")
        self.error = error

    def __len__(self):
        return 5

    def load(self, source_index):
        if source_index == 3:
            raise self.error
        return np.full((4, 4, 3), source_index, np.uint8)


def make_chained_error(cause):
    error = RuntimeError("sample 3 failed")
    error.__cause__ = cause
    return error


def collect_skipping(source):
    return collect_statistics(source, Settings(on_bad_image="skip"), TOY)


@pytest.mark.parametrize(
    "error",
    [
        *(
            OSError(number, os.strerror(number))
            for number in (
                *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM),
                *(errno.ENOSPC, errno.ETIMEDOUT, errno.ENOTCONN, errno.EBADF, errno.EINTR),
            )
        ),
        MemoryError(),
        OSError("out of memory error when reading image file"),
        make_chained_error(OSError(errno.EMFILE, "Too many open files")),
        make_chained_error(MemoryError()),
    ],
    ids=repr,
)
def test_a_fault_of_the_machine_ends_the_run(error):
    with pytest.raises(RunError, match=r"^images\[3\] could not be read: .*not of the image") as caught:
        collect_skipping(FailingSource(error))
    assert not isinstance(caught.value, ImageDecodeError)


@pytest.mark.parametrize(
    "error",
    [
        OSError("image file is truncated"),
        SyntaxError("broken PNG file"),
        OSError(errno.ENOENT, "No such file or directory"),
        OSError(errno.EINVAL, "Invalid argument"),
        make_chained_error(ValueError("bad")),
        Image.DecompressionBombError("too large"),
    ],
    ids=repr,
)
def test_a_fault_of_an_image_is_skipped(error):
    statistics = collect_skipping(FailingSource(error))
    assert statistics.n == 4
    assert statistics.skipped_images[0].startswith("images[3] cannot be decoded: ")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_is_not_taken_for_a_missing_one(tmp_path, monkeypatch, number):
    folder = make_image_folder(tmp_path / "a")
    source, stat = open_source(folder), os.stat

    def refuse(path, **options):
        if Path(path).name == "003.png":
            raise OSError(number, os.strerror(number))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(RunError, match=r"003\.png could not be read: "):
        collect_skipping(source)


def test_too_many_open_files_end_the_run(tmp_path):
    source = open_source(make_image_folder(tmp_path / "a"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        with pytest.raises(RunError, match="Too many open files") as caught:
            collect_skipping(source)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not isinstance(caught.value, ImageDecodeError)

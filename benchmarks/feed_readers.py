"""The readers that feed.py compares: frechet, Pillow, the decoders of the extra `fast` alone, and other tools that are installed."""

import importlib.util
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from unittest import mock

import numpy as np
from PIL import Image

from frechet.features.extractor import MAX_DEVICE_PIXELS
from frechet.images import checks, fast_decoders
from frechet.images.loader import load_batches
from frechet.images.sources.registry import open_source
from frechet.preprocessing.registry import PREPROCESSINGS

GROUP, BATCH, INPUT_SIZE = 32, 128, 299
MEMORY = threading.local()


def read_with_frechet(path, threads, *, is_left_to_device=None, is_fast=True):
    """Read, check and, unless a device does that, resize all images with the loader of frechet, as if `fast` were installed or not."""
    source = open_source(path)
    with ExitStack() as patches:
        if not is_fast:
            patches.enter_context(mock.patch.object(fast_decoders, "load_decoder", load_no_decoder))
            patches.enter_context(mock.patch.object(checks, "load_crc32", load_zlibs_crc32))
        batches = load_batches(
            source.iter_images(range(len(source))),
            PREPROCESSINGS["pytorch-fid"].resize,
            size=INPUT_SIZE,
            batch_size=BATCH,
            workers=threads,
            skip_bad_images=False,
            is_left_to_device=is_left_to_device,
        )
        return sum(len(batch.image_refs) for batch in batches)


def load_no_decoder(_file_format):
    return None


def load_zlibs_crc32():
    return zlib.crc32


def is_ordinary(height, width):
    """Return whether a device resizes images of this size."""
    return height * width <= MAX_DEVICE_PIXELS


def make_group_reader(read_file):
    """Return a reader of all files of a folder, whose threads take groups of files."""

    def read_group(files):
        return sum(read_file(file) is not None for file in files)

    def read(path, threads):
        if not path.is_dir():
            return None
        files = sorted(path.iterdir())
        groups = [files[start : start + GROUP] for start in range(0, len(files), GROUP)]
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(read_group, groups))

    return read


def read_with_pillow(file):
    return np.asarray(Image.open(file).convert("RGB"))


def read_with_decoder_alone(file):
    import imagecodecs
    import simplejpeg

    data = file.read_bytes()
    if file.suffix == ".png":
        width, height = struct.unpack_from(">2I", data, 16)
    else:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
    out = get_memory(3 * height * width).reshape(height, width, 3)
    return (
        imagecodecs.spng_decode(data, out=out)
        if file.suffix == ".png"
        else simplejpeg.decode_jpeg(data, "RGB", buffer=out)
    )


def get_memory(n_bytes):
    """Return memory that the calling thread uses again for its next image."""
    if len(getattr(MEMORY, "of_thread", ())) < n_bytes:
        MEMORY.of_thread = np.empty(n_bytes, np.uint8)
    return MEMORY.of_thread[:n_bytes]


def find_readers():
    """Return {name: reader}; a reader returns the number of images, or None if it does not read that kind."""
    readers = {
        "pillow": make_group_reader(read_with_pillow),
        "decoder alone": make_group_reader(read_with_decoder_alone),
        "frechet, host": partial(read_with_frechet, is_fast=False),
        "frechet, device": partial(read_with_frechet, is_left_to_device=is_ordinary, is_fast=False),
        "frechet, host, fast": read_with_frechet,
        "frechet, device, fast": partial(read_with_frechet, is_left_to_device=is_ordinary),
    }
    if importlib.util.find_spec("torchvision"):
        import torch
        import torchvision
        from torchvision.io import ImageReadMode, decode_image

        torch.set_num_threads(1)  # as in the workers of a DataLoader
        readers["torchvision"] = make_group_reader(lambda file: decode_image(str(file), ImageReadMode.RGB))
        to_tensor = torchvision.transforms.ToTensor()
        if importlib.util.find_spec("pytorch_fid"):
            from pytorch_fid.fid_score import ImagePathDataset

            readers["pytorch-fid"] = make_group_reader(lambda file: ImagePathDataset([file], transforms=to_tensor)[0])
        if importlib.util.find_spec("torch_fidelity"):
            from torch_fidelity.datasets import ImagesPathDataset

            readers["torch-fidelity"] = make_group_reader(lambda file: ImagesPathDataset([file])[0])
        if importlib.util.find_spec("cleanfid"):
            from cleanfid.utils import ResizeDataset

            readers["clean-fid"] = make_group_reader(lambda file: ResizeDataset([file], "legacy_tensorflow")[0])
    return readers

"""Seeded, untrained Inception weights in the official layout, made with numpy alone.

The same drawing order as the script that made the golden numbers (see data/README.md): PCG64(seed), and for every
convolution in turn kernel ~ N(0, 2/fan_in), gamma ~ U(.9, 1.1), beta ~ N(0, .1), mean ~ N(0, .1), variance ~ U(.8, 1.2).
"""

import zipfile
from functools import lru_cache
from pathlib import Path
from pickle import PROTO, STOP  # only the two opcodes that frame a pickle

import numpy as np


def iter_conv_shapes():
    """(layer, out, in, height, width) in drawing order."""
    yield from [
        ("Conv2d_1a_3x3", 32, 3, 3, 3),
        ("Conv2d_2a_3x3", 32, 32, 3, 3),
        ("Conv2d_2b_3x3", 64, 32, 3, 3),
        ("Conv2d_3b_1x1", 80, 64, 1, 1),
        ("Conv2d_4a_3x3", 192, 80, 3, 3),
    ]
    for block, width, pool in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        yield from _iter_branches(
            block,
            ("1x1", 64, width, 1, 1),
            ("5x5_1", 48, width, 1, 1),
            ("5x5_2", 64, 48, 5, 5),
            ("3x3dbl_1", 64, width, 1, 1),
            ("3x3dbl_2", 96, 64, 3, 3),
            ("3x3dbl_3", 96, 96, 3, 3),
            ("_pool", pool, width, 1, 1),
        )
    yield from _iter_branches(
        "6a",
        ("3x3", 384, 288, 3, 3),
        ("3x3dbl_1", 64, 288, 1, 1),
        ("3x3dbl_2", 96, 64, 3, 3),
        ("3x3dbl_3", 96, 96, 3, 3),
    )
    for block, c in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        yield from _iter_branches(
            block,
            ("1x1", 192, 768, 1, 1),
            ("7x7_1", c, 768, 1, 1),
            ("7x7_2", c, c, 1, 7),
            ("7x7_3", 192, c, 7, 1),
            ("7x7dbl_1", c, 768, 1, 1),
            ("7x7dbl_2", c, c, 7, 1),
            ("7x7dbl_3", c, c, 1, 7),
            ("7x7dbl_4", c, c, 7, 1),
            ("7x7dbl_5", 192, c, 1, 7),
            ("_pool", 192, 768, 1, 1),
        )
    yield from _iter_branches(
        "7a",
        ("3x3_1", 192, 768, 1, 1),
        ("3x3_2", 320, 192, 3, 3),
        ("7x7x3_1", 192, 768, 1, 1),
        ("7x7x3_2", 192, 192, 1, 7),
        ("7x7x3_3", 192, 192, 7, 1),
        ("7x7x3_4", 192, 192, 3, 3),
    )
    for block, width in (("7b", 1280), ("7c", 2048)):
        yield from _iter_branches(
            block,
            ("1x1", 320, width, 1, 1),
            ("3x3_1", 384, width, 1, 1),
            ("3x3_2a", 384, 384, 1, 3),
            ("3x3_2b", 384, 384, 3, 1),
            ("3x3dbl_1", 448, width, 1, 1),
            ("3x3dbl_2", 384, 448, 3, 3),
            ("3x3dbl_3a", 384, 384, 1, 3),
            ("3x3dbl_3b", 384, 384, 3, 1),
            ("_pool", 192, width, 1, 1),
        )


def _iter_branches(block, *branches):
    for name, *shape in branches:
        yield (f"Mixed_{block}.branch{name}", *shape)


@lru_cache(maxsize=2)
def make_seeded_state_dict(seed, head=False, thinning=1):
    """{key: float32 array}, without num_batches_tracked and by default without the head: readers must not need them.

    Every layer has one channel in `thinning`, a divisor of 16, of those of the network.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    state = {}
    for name, out, width, kh, kw in iter_conv_shapes():
        out, width = out // thinning, width if width == 3 else width // thinning
        state[f"{name}.conv.weight"] = random.standard_normal((out, width, kh, kw)) * np.sqrt(2 / (width * kh * kw))
        state[f"{name}.bn.weight"] = random.uniform(0.9, 1.1, out)
        state[f"{name}.bn.bias"] = random.standard_normal(out) * 0.1
        state[f"{name}.bn.running_mean"] = random.standard_normal(out) * 0.1
        state[f"{name}.bn.running_var"] = random.uniform(0.8, 1.2, out)
    if head:
        state["fc.weight"] = random.standard_normal((1008, 2048 // thinning)) / np.sqrt(2048 // thinning)
    return {key: value.astype(np.float32) for key, value in state.items()}


def make_torchvision_state_dict(seed):
    """The same layers, and torchvision's head: 1000 classes with a bias."""
    random = np.random.Generator(np.random.PCG64([seed, 1000]))
    head = {"fc.weight": random.standard_normal((1000, 2048)) / np.sqrt(2048), "fc.bias": random.standard_normal(1000)}
    return make_seeded_state_dict(seed) | {key: value.astype(np.float32) for key, value in head.items()}


def write_pth(path: Path, state) -> Path:
    """A .pth in torch's zip layout, its pickle put together opcode by opcode (docs: pickletools)."""
    pickle, data = [PROTO + b"\x02", b"}("], {}
    for key, (name, array) in enumerate(state.items()):
        storage = b"ctorch\nFloatStorage\n"
        persistent = (
            b"("
            + _pickle_text("storage")
            + storage
            + _pickle_text(str(key))
            + _pickle_text("cpu")
            + _pickle_int(array.size)
            + b"tQ"
        )
        strides = [int(stride // array.itemsize) for stride in array.strides]
        arguments = (
            persistent
            + _pickle_int(0)
            + _pickle_tuple(array.shape)
            + _pickle_tuple(strides)
            + b"\x89"
            + b"ccollections\nOrderedDict\n)R"
        )
        pickle.append(_pickle_text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR")
        data[str(key)] = array.tobytes()
    pickle.append(b"u" + STOP)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"".join(pickle))
        archive.writestr("archive/version", "3\n")
        for key, raw in data.items():
            archive.writestr(f"archive/data/{key}", raw)
    return path


def _pickle_text(text):
    raw = text.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def _pickle_int(value):
    return b"J" + int(value).to_bytes(4, "little", signed=True)


def _pickle_tuple(values):
    return b"(" + b"".join(_pickle_int(value) for value in values) + b"t"

"""A folder of files that no score can be computed from, and the good ones next to them."""

import io
import json
import os
import socket
import tarfile
import zipfile

import numpy as np
from helpers import make_image_folder
from PIL import Image

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (4, 8, 8, 3), np.uint8)
FEATURES = RANDOM.normal(size=(20, 5)).astype(np.float32)
CONTAINERS = ("npy", "npz", "zip", "tar", "parquet", "arrow", "h5", "hdf5", "lmdb")

ARRAYS = {
    "float.npy": IMAGES / 255,
    "chw.npy": IMAGES.transpose(0, 3, 1, 2),
    "int64.npy": IMAGES.astype(np.int64),
    "bool.npy": IMAGES > 100,
    "complex.npy": IMAGES.astype(np.complex64),
    "text.npy": np.array(["a", "b", "c"]),
    "dates.npy": np.zeros((4, 8, 8, 3), "M8[s]"),
    "scalar.npy": np.uint8(3),
    "flat.npy": np.arange(30, dtype=np.uint8),
    "five-axes.npy": IMAGES[None],
    "one-image.npy": IMAGES[:1],
    "no-image.npy": IMAGES[:0],
    "no-pixels.npy": np.zeros((4, 0, 8, 3), np.uint8),
    "two-channels.npy": IMAGES[..., :2],
    "record.npy": np.zeros(4, [("a", np.uint8), ("b", np.float32)]),
}
BAD_FEATURES = {
    "nan-features.npy": np.where(np.arange(20)[:, None] == 3, np.nan, FEATURES),
    "infinite-features.npy": np.where(np.arange(20)[:, None] == 3, np.inf, FEATURES),
    "one-row.npy": FEATURES[:1],
    "no-row.npy": FEATURES[:0],
    "no-column.npy": FEATURES[:, :0],
    "other-columns.npy": FEATURES[:, :3],
    "flat-features.npy": FEATURES[:, 0],
    "three-axes.npy": FEATURES[None],
    "complex-features.npy": FEATURES.astype(np.complex64),
    "text-features.npy": FEATURES.astype(str),
    "huge-features.npy": FEATURES.astype(np.float64) * 1e300,
}
MOMENTS = {"mu": np.zeros(5), "sigma": np.eye(5)}
BAD_STATISTICS = {
    "nan-mu.npz": {**MOMENTS, "mu": np.full(5, np.nan)},
    "infinite-sigma.npz": {**MOMENTS, "sigma": np.full((5, 5), np.inf)},
    "no-sigma.npz": {"mu": MOMENTS["mu"]},
    "no-mu.npz": {"sigma": MOMENTS["sigma"]},
    "asymmetric.npz": {**MOMENTS, "sigma": np.triu(np.ones((5, 5)))},
    "negative.npz": {**MOMENTS, "sigma": -np.eye(5)},
    "unequal.npz": {**MOMENTS, "mu": np.zeros(4)},
    "no-dimension.npz": {"mu": np.zeros(0), "sigma": np.zeros((0, 0))},
    "complex-sigma.npz": {**MOMENTS, "sigma": np.eye(5) * 1j},
    "text-mu.npz": {**MOMENTS, "mu": np.array(list("abcde"))},
    "nothing-known.npz": {"x": np.zeros(3)},
}
RUNS = {
    "empty.json": "",
    "garbage.json": "\x00\xff{{{",
    "null.json": "null",
    "list.json": "[]",
    "object.json": "{}",
    "number.json": "3",
    "deep.json": "[" * 100_000,
    "schema-1.json": json.dumps({"schema": 1, "scores": {}}),
    "schema-x.json": json.dumps({"schema": "x", "scores": {}}),
    "no-scores.json": json.dumps({"schema": 2, "scores": {}, "unavailable": {}, "provenance": {}}),
    "wrong-scores.json": json.dumps({"schema": 2, "scores": {"fid": 3}, "unavailable": {}, "provenance": {}}),
    "list-scores.json": json.dumps({"schema": 2, "scores": [], "unavailable": {}, "provenance": {}}),
    "nan-score.json": '{"schema": 2, "scores": {"fid": {"value": NaN}}, "unavailable": {}, "provenance": {}}',
}
# inputs that are no files of the folder
ADDRESSES = (
    "missing",
    "missing.npz",
    "missing/*.tar",
    "{a,b",
    "[",
    "*.nothing",
    "http://127.0.0.1:9/s.npz",
    "https://[::1/s.npz",
    "ref:nothing",
    "nul\0byte",
    "x" * 5000,
    "/dev/null",
    "/dev/zero",
    "..",
    "-",
    "",
    " ",
)


def make_bad_inputs(folder):
    """Write all files into a folder; return the names of those that are no images, in order."""
    make_image_folder(folder / "good", 4)
    np.save(folder / "good.npy", FEATURES)
    np.savez(folder / "good.npz", **MOMENTS)
    for name, text in RUNS.items():
        (folder / name).write_text(text, encoding="latin-1")
    for name, array in {**ARRAYS, **BAD_FEATURES}.items():
        np.save(folder / name, array)
    for name, arrays in BAD_STATISTICS.items():
        np.savez(folder / name, **arrays)
    return [*ARRAYS, *_make_folders(folder), *_make_files(folder), *_make_special(folder), *ADDRESSES]


def _make_folders(folder):
    (folder / "empty").mkdir()
    make_image_folder(folder / "one-image", 1)
    make_image_folder(folder / "broken", 3)
    (folder / "broken" / "001.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("a")
    (folder / "hidden").mkdir()
    (folder / "hidden" / ".a.png").write_bytes(b"")
    return ["empty", "one-image", "broken", "texts", "hidden"]


def _make_files(folder):
    for extension in CONTAINERS:
        (folder / f"empty.{extension}").write_bytes(b"")
        (folder / f"garbage.{extension}").write_bytes(RANDOM.bytes(1000))
    np.save(folder / "objects.npy", np.array([{}, []], object))
    np.savez(folder / "objects.npz", arr_0=np.array([{}, []], object))
    stream = io.BytesIO()
    np.save(stream, IMAGES)
    (folder / "truncated.npy").write_bytes(stream.getvalue()[:-100])
    with zipfile.ZipFile(folder / "texts.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with zipfile.ZipFile(folder / "broken.zip", "w") as archive:
        archive.writestr("a.png", "a")
        archive.writestr("b.png", "b")
    with tarfile.open(folder / "texts.tar", "w") as archive:
        archive.add(folder / "texts")
    Image.fromarray(IMAGES[0]).save(folder / "single.png")
    (folder / "note.txt").write_text("a")
    named = [
        "objects.npy",
        "objects.npz",
        "truncated.npy",
        "texts.zip",
        "broken.zip",
        "texts.tar",
        "single.png",
        "note.txt",
    ]
    return [*(f"{kind}.{extension}" for extension in CONTAINERS for kind in ("empty", "garbage")), *named]


def _make_special(folder):
    os.mkfifo(folder / "pipe.npz")
    (folder / "dangling.npz").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "pipe-link.zip").symlink_to("pipe.npz")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket.npy")  # relative, since the address may have only 107 bytes
    listener.close()
    return ["pipe.npz", "dangling.npz", "loop", "pipe-link.zip", "socket.npy"]

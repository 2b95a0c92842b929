"""The readers that fuzz.py tests: valid files to start from, how to mutate them, and how to read them to the last byte."""

import contextlib
import io
import pickle
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fuzz_mutations import mutate, mutate_png, mutate_safetensors, mutate_tar, mutate_zip
from PIL import Image

from frechet.errors import ImageDecodeError
from frechet.images.decode import decode
from frechet.images.decode_budget import DecodeBudget
from frechet.images.image import EncodedImage, ImageRef
from frechet.images.sources.registry import open_source

RANDOM = np.random.default_rng(0)
MAX_PIXELS, BUDGET = 30_000_000, DecodeBudget()  # 480 MB at 16 bytes per pixel
PIXELS = RANDOM.integers(0, 256, (4, 5, 6, 3), np.uint8)


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes:
        suffix: extension of the file.
        seeds: return the bytes of valid files.
        read: read the file at a path, and raise errors of frechet only.
        mutate: change the bytes of a seed: (bytes, random.Random) -> bytes.
        is_native: whether a library written in C or C++ parses the file.
    """

    suffix: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    mutate: Callable = mutate
    is_native: bool = False


def decode_within_limit(image_ref):
    """Decode an image with --max-pixels, so that what a header declares is compared with the limit of memory."""
    with BUDGET.admit(MAX_PIXELS) as reserve:
        decode(image_ref, reserve)


def read_source(path):
    """Open the file as a source and decode every image of it."""
    source = open_source(path)
    for image_ref in source.iter_images(range(len(source))):
        with contextlib.suppress(ImageDecodeError):  # an error of this image only
            decode_within_limit(image_ref)


def read_image(path):
    data = path.read_bytes()
    decode_within_limit(ImageRef(0, "image", lambda: EncodedImage(data)))


def read_state(path):
    from frechet.networks.checkpoint import read_state_dict

    read_state_dict(path)


def read_statistics(path):
    from frechet.statistics.foreign_formats import is_statistics_file
    from frechet.statistics.npz_format import read_statistics

    is_statistics_file(path)
    read_statistics(path)


def read_features(path):
    from frechet.statistics.npz_format import read_features

    read_features(path)


def read_runs(path):
    import frechet

    good = path.with_name("good.json")
    if not good.exists():
        good.write_bytes(json_seeds()[0])
    frechet.compare_runs([path, good])


def read_protocol(path):
    from frechet.protocols.registry import find_protocol

    find_protocol(path)


def read_onnx(path):
    from frechet.features.loading import load_extractor

    load_extractor(f"onnx:{path}")


def read_pretrained(path):
    """Load the file as the weights of the small model that `safetensors_seeds` saves."""
    from frechet.backends.transformers import load_pretrained

    folder = path.parent / "model"
    if not folder.exists():
        import transformers

        transformers.logging.set_verbosity(100)  # a report for each damaged file
        transformers.logging.disable_progress_bar()
        save_small_model(folder)
    shutil.move(path, folder / "model.safetensors")
    load_pretrained("Dinov2Model", "pooler_output", str(folder), "cpu", {})


def save_small_model(folder):
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, image_size=14, patch_size=7)
    Dinov2Model(config).save_pretrained(folder)


def safetensors_seeds():
    with tempfile.TemporaryDirectory() as folder:
        save_small_model(Path(folder))
        return [Path(folder, "model.safetensors").read_bytes()]


def encode_image(kind="PNG", mode="RGB", **options):
    stream = io.BytesIO()
    Image.fromarray(PIXELS[0]).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def image_seeds():
    kinds = [
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("PNG", "I;16"),
        ("JPEG", "RGB"),
        ("BMP", "RGB"),
        ("PPM", "RGB"),
        ("TIFF", "RGB"),
    ]
    seeds = [encode_image(kind, mode) for kind, mode in kinds[:2] + kinds[3:]]
    seeds.append(encode_image("TIFF", compression="tiff_lzw"))
    seeds.append(encode_image("TIFF", compression="jpeg"))
    seeds += [encode_image("WEBP"), encode_image("WEBP", lossless=True), encode_image("JPEG", progressive=True)]
    return [*seeds, encode_large_png()]


def encode_large_png():
    """Return a PNG that is large enough to be inflated before it is decoded (19 KB)."""
    stream = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (80, 80, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def zip_seeds():
    seeds = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as archive:
            archive.writestr("a/0.png", encode_image())
            archive.writestr("b/1.jpg", encode_image("JPEG"))
        seeds.append(stream.getvalue())
    return seeds


def tar_seeds():
    seeds = []
    for tar_format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tar_format) as archive:
            for name, data in (("0.png", encode_image()), ("a" * 90 + ".jpg", encode_image("JPEG"))):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("2.png")
            link.type, link.linkname = tarfile.SYMTYPE, "0.png"
            archive.addfile(link)
        seeds.append(stream.getvalue())
    return seeds


def to_bytes(save, *args, **kwargs):
    stream = io.BytesIO()
    save(stream, *args, **kwargs)
    return stream.getvalue()


def npz_seeds():
    labels = np.arange(4)
    return [to_bytes(np.savez, arr_0=PIXELS, arr_1=labels), to_bytes(np.savez_compressed, PIXELS)]


def npy_seeds():
    return [to_bytes(np.save, PIXELS), to_bytes(np.save, PIXELS[..., :1])]


def features_seeds():
    features = RANDOM.standard_normal((6, 4)).astype(np.float32)
    return [to_bytes(np.save, features), to_bytes(np.save, features.astype(np.float64))]


def statistics_seeds():
    from frechet.statistics.feature_statistics import FeatureStatistics
    from frechet.statistics.npz_format import write_statistics

    features = RANDOM.standard_normal((12, 4)).astype(np.float32)
    seeds = [to_bytes(np.savez, mu=features.mean(0), sigma=np.cov(features.T)), to_bytes(np.savez, feats=features)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s.npz")
        write_statistics(FeatureStatistics.from_features(features), path)
        return [*seeds, path.read_bytes()]


def pickle_seeds():
    content = {"num_images": 9, "fid": {"mu": np.arange(4.0), "sigma": np.eye(4)}}
    return [pickle.dumps(content, protocol) for protocol in (0, 2, 4, 5)]


def torch_seeds():
    import torch

    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2, dtype=torch.int64)}
    return [
        to_bytes(lambda stream, **options: torch.save(state, stream, **options), **options)
        for options in ({}, {"_use_new_zipfile_serialization": False})
    ]


def mutate_torch(data, rng):
    return mutate_zip(data, rng) if data[:2] == b"PK" else mutate(data, rng)


def json_seeds():
    import frechet

    features = RANDOM.standard_normal((2, 60, 4))
    run = frechet.score(features[0], features[1], features=True).to_json()
    own = '"generated": {"n": 60, "n_source": 60, "seed": 0, "moments": [1, 2]}, "reference": null'
    return [run.encode(), run.replace('"label"', f'"provenance": {{{own}}}, "label"', 1).encode()]


def mutate_text(data, rng):
    return mutate(data, rng, is_text=True)


def protocol_seeds():
    based = 'base = "adm-imagenet-64"\ntitle = "a"\nn_generated = 10_000\n'
    based += '[alternatives]\npreprocessing = ["pytorch-fid"]\n[accepted]\nfid = [8.0, 9.0]\n'
    whole = """title = "b"
source = "our paper"
metrics = ["fid", "kid"]
extractor = "inception"
preprocessing = "tensorflow"
reference = "birds"
reference_title = "our training set"
n_generated = 10000
published = [{ model = "m", values = { fid = 1.5 }, source = "s" }]
"""
    return [based.encode(), whole.encode()]


def with_file(suffix, write):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"seed{suffix}")
        write(path)
        return path.read_bytes()


def hdf5_seeds():
    import h5py

    def write(path, **options):
        with h5py.File(path, "w") as archive:
            archive.create_dataset("images", data=PIXELS, **options)

    def write_encoded(path):
        with h5py.File(path, "w") as archive:
            data = archive.create_dataset("g/jpegs", (2,), h5py.vlen_dtype(np.uint8))
            for row in range(2):
                data[row] = np.frombuffer(encode_image(), np.uint8)

    return [
        with_file(".h5", write),
        with_file(".h5", lambda path: write(path, chunks=(2, 5, 6, 3), compression="gzip")),
        with_file(".h5", write_encoded),
    ]


def lmdb_seeds():
    import lmdb

    def write(path, values):
        with (
            lmdb.open(str(path), subdir=False, map_size=1 << 20, lock=False) as environment,
            environment.begin(write=True) as transaction,
        ):
            for key, value in values.items():
                transaction.put(key, value)

    images = {f"{number:04d}".encode(): encode_image() for number in range(40)}
    large = {b"a": encode_image("BMP") * 30, b"b": encode_image("JPEG"), b"length": b"2"}
    return [with_file(".lmdb", lambda path: write(path, images)), with_file(".lmdb", lambda path: write(path, large))]


def make_table():
    import pyarrow as pa

    rows = [{"bytes": encode_image(), "path": "a.png"}, {"bytes": encode_image("JPEG"), "path": None}]
    return pa.table({"image": pa.array(rows), "label": pa.array([1, 2])})


def arrow_seeds():
    import pyarrow as pa

    seeds = []
    for new, options in (
        (pa.ipc.new_file, None),
        (pa.ipc.new_stream, None),
        (pa.ipc.new_file, pa.ipc.IpcWriteOptions(compression="zstd")),
    ):
        stream, table = io.BytesIO(), make_table()
        with new(stream, table.schema, options=options) as writer:
            writer.write_table(table)
        seeds.append(stream.getvalue())
    return seeds


def parquet_seeds():
    from pyarrow import parquet

    return [
        to_bytes(lambda stream, **options: parquet.write_table(make_table(), stream, **options), **options)
        for options in ({}, {"compression": "zstd", "use_dictionary": False})
    ]


def onnx_seeds():
    from onnx import TensorProto, helper

    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 3, 8, 8]), ("y", ["n", 3]))
    ]
    graph = helper.make_graph(nodes, "toy", shapes[:1], shapes[1:])
    return [helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()]


READERS = {
    "image": Reader(".png", image_seeds, read_image, mutate_png),
    "zip": Reader(".zip", zip_seeds, read_source, mutate_zip),
    "tar": Reader(".tar", tar_seeds, read_source, mutate_tar),
    "npz": Reader(".npz", npz_seeds, read_source, mutate_zip),
    "npy": Reader(".npy", npy_seeds, read_source),
    "features": Reader(".npy", features_seeds, read_features),
    "statistics": Reader(".npz", statistics_seeds, read_statistics, mutate_zip),
    "pickle": Reader(".pkl", pickle_seeds, read_statistics),
    "pth": Reader(".pth", torch_seeds, read_state, mutate_torch),
    "safetensors": Reader(".safetensors", safetensors_seeds, read_pretrained, mutate_safetensors),
    "json": Reader(".json", json_seeds, read_runs, mutate_text),
    "protocol": Reader(".toml", protocol_seeds, read_protocol, mutate_text),
    "hdf5": Reader(".h5", hdf5_seeds, read_source, is_native=True),
    "lmdb": Reader(".lmdb", lmdb_seeds, read_source, is_native=True),
    "arrow": Reader(".arrow", arrow_seeds, read_source, is_native=True),
    "parquet": Reader(".parquet", parquet_seeds, read_source, is_native=True),
    "onnx": Reader(".onnx", onnx_seeds, read_onnx, is_native=True),
}

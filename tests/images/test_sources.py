"""Image sources give the same images for every kind of storage, and report damage, missing files and outside links."""

import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import fsspec
import h5py
import lmdb
import numpy as np
import pyarrow as pa
import pytest
import toy
from PIL import Image
from pyarrow import parquet
from toy import TOY, first_six_values

import frechet
from frechet._internal import remote_files
from frechet.errors import ArchiveError, FrechetError, ImageDecodeError, SourceError, UnreachableError
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.decode import decode
from frechet.images.sources.registry import open_source
from frechet.images.sources.sharded import expand_pattern

COUNT = 600


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), np.uint8)


@pytest.fixture(scope="module")
def files(images):
    """Bytes of a PNG by name, in order."""
    return {f"{index:04d}.png": make_png(image) for index, image in enumerate(images)}


def make_png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def write_tar(path, files, extra=()):
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return path


def select_files(files, start, stop):
    return dict(list(files.items())[start:stop])


def make_link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def make_folder(folder, files, images):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def make_zip(folder, files, images):
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return folder / "a.zip"


def make_npz(folder, files, images):
    np.savez_compressed(folder / "a.npz", arr_0=images)
    return folder / "a.npz"


def make_shards(folder, files, images):
    for shard in range(3):
        members = {"labels.json": b"{}", **select_files(files, shard * 250, shard * 250 + 250)}
        write_tar(folder / f"s-{shard:03d}.tar", members)
    return folder / "s-{000..002}.tar"


def make_parquet(folder, files, images):
    structs = [{"bytes": data, "path": name} for name, data in files.items()]
    table = pa.table({"label": range(COUNT), "image": structs})
    parquet.write_table(table.slice(0, 333), folder / "train-0.parquet", row_group_size=100)
    parquet.write_table(table.slice(333), folder / "train-1.parquet", row_group_size=1000)
    return folder / "train-*.parquet"


def make_arrow_stream(folder, files, images):
    table = pa.table({"image": [{"bytes": data, "path": None} for data in files.values()]})
    with pa.OSFile(str(folder / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=70)
    return folder / "a.arrow"


def make_arrow_file(folder, files, images):
    table = pa.table({"jpg": list(files.values()), "text": ["a"] * COUNT})
    with pa.OSFile(str(folder / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=70)
    return folder / "a.arrow"


def make_hdf5(folder, files, images):
    with h5py.File(folder / "a.h5", "w") as archive:
        archive.create_dataset("labels", data=np.arange(COUNT))
        archive.create_dataset("group/images", data=images, chunks=(50, 4, 4, 3), compression="gzip")
    return folder / "a.h5"


def make_hdf5_of_files(folder, files, images):
    with h5py.File(folder / "a.hdf5", "w") as archive:
        data = archive.create_dataset("encoded", (COUNT,), h5py.vlen_dtype(np.uint8))
        for index, content in enumerate(files.values()):
            data[index] = np.frombuffer(content, np.uint8)
    return folder / "a.hdf5"


def make_lmdb(folder, files, images):
    with closing(lmdb.open(str(folder / "a"), map_size=1 << 24)) as base, base.begin(write=True) as transaction:
        transaction.put(b"length", b"600")
        for name, data in files.items():
            transaction.put(name.encode(), data)
    return folder / "a"


def make_remote(name):
    def make_and_upload(folder, files, images):
        """Copy the file or folder to a URL of fsspec's memory file system."""
        local = {
            "folder": make_folder,
            "zip": make_zip,
            "npz": make_npz,
            "tar": make_shards,
            "parquet": make_parquet,
            "h5": make_hdf5,
        }
        made = local[name](folder, files, images)
        url = f"memory://{folder.name}-{name}"
        fsspec.filesystem("memory").put(f"{folder}/", url, recursive=True)
        return url if made == folder else f"{url}/{made.name}"

    make_and_upload.__name__ = f"remote_{name}"
    return make_and_upload


KINDS = [
    make_folder,
    make_zip,
    make_npz,
    make_shards,
    make_parquet,
    make_arrow_stream,
    make_arrow_file,
    make_hdf5,
    make_hdf5_of_files,
]
KINDS += [make_lmdb, *map(make_remote, ("folder", "zip", "npz", "tar", "parquet", "h5"))]


@pytest.mark.slow
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_every_kind_of_storage_gives_the_same_images(tmp_path, files, images, make):
    source = open_source(make(tmp_path, files, images))
    assert len(source) == COUNT
    statistics = collect_statistics(source, Settings(), TOY, keep_all=True)
    np.testing.assert_array_equal(statistics.rows, first_six_values(images))
    np.testing.assert_allclose(statistics.mean, first_six_values(images).mean(0, dtype=float), rtol=1e-12)
    assert len(set(statistics.labels)) == COUNT
    source_indices = [0, 1, 5, 249, 250, 251, 332, 333, 470, 599]
    image_refs = list(source.iter_images(source_indices))
    assert [image_ref.index for image_ref in image_refs] == list(range(10))
    assert [image_ref.label for image_ref in image_refs] == [source.get_label(index) for index in source_indices]
    for index, image_ref in zip(source_indices, image_refs, strict=True):
        np.testing.assert_array_equal(decode(image_ref).rgb, images[index])


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_fingerprints_identify_images(tmp_path, files, images, make):
    location = make(tmp_path, files, images)
    fingerprints = list(open_source(location).fingerprints(range(COUNT)))
    assert len(set(fingerprints)) == COUNT
    assert list(open_source(location).fingerprints([3, 400])) == [fingerprints[3], fingerprints[400]]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{8..10}.tar", ["a-8.tar", "a-9.tar", "a-10.tar"]),
        ("{x,yy}/{0..1}.tar", ["x/0.tar", "x/1.tar", "yy/0.tar", "yy/1.tar"]),
        ("s3://bucket/{a,b}.tar", ["s3://bucket/a.tar", "s3://bucket/b.tar"]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern, names):
    assert expand_pattern(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{3..1}.tar", r"\{3\.\.1\} is not a valid shard range; expected \{first"),
        ("{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}.tar", "matches more than 100000 files"),
        ("nothing/*.tar", r"no file matches .*nothing"),
        ("s-{000..003}.tar", "no such file or folder: .*s-003.tar"),
    ],
)
def test_invalid_and_unmatched_patterns_are_rejected(tmp_path, files, images, pattern, message):
    make_shards(tmp_path, files, images)
    with pytest.raises(SourceError, match=message):
        open_source(str(tmp_path / pattern))


def test_an_existing_path_with_braces_is_not_a_pattern(tmp_path, files):
    write_tar(tmp_path / "{a,b}.tar", select_files(files, 0, 3))
    assert len(open_source(tmp_path / "{a,b}.tar")) == 3


@pytest.mark.parametrize("kept", [0.5, 0.97, "no ending"])
def test_a_truncated_tar_is_scored_only_if_bad_images_are_skipped(tmp_path, files, images, kept):
    whole = write_tar(tmp_path / "a.tar", select_files(files, 0, 40))
    content = whole.read_bytes()
    each = 512 + 512  # a header and a small PNG
    length = 40 * each if kept == "no ending" else int(40 * each * kept) // each * each + 600
    whole.write_bytes(content[:length])
    good = 40 if kept == "no ending" else length // each
    with pytest.raises(ImageDecodeError, match=r"a\.tar:.*truncated"):
        collect_statistics(open_source(whole), Settings(), TOY)
    statistics = collect_statistics(open_source(whole), Settings(on_bad_image="skip"), TOY)
    assert statistics.n == good
    assert len(statistics.skipped_images) == 1
    np.testing.assert_array_equal(statistics.rows, first_six_values(images[:good]))


@pytest.mark.slow
@pytest.mark.parametrize("bad", ["stop", "skip"])
@pytest.mark.parametrize("first", ["a/", "0.png"])
@pytest.mark.parametrize("offset", [100, 600])
def test_a_tar_truncated_in_its_second_member_is_reported_as_truncated_not_as_too_few_images(
    tmp_path, files, bad, first, offset
):
    """The first member is a folder, as `tar cf a.tar folder/` writes it, or an image; the cut is in its header or data."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in (first, "a/1.png", "a/2.png"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name == "a/" else tarfile.REGTYPE
            content = b"" if name == "a/" else files["0000.png"]
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            if name == first:
                length = archive.offset + offset
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:length])
    with pytest.raises(FrechetError, match="truncated"):
        frechet.collect(tmp_path / "a.tar", extractor="efficientnet-lite0", on_bad_image=bad)


def test_damage_between_members_of_a_tar_is_detected(tmp_path, files):
    path = write_tar(tmp_path / "a.tar", select_files(files, 0, 40))
    content = bytearray(path.read_bytes())
    content[20 * 1024 : 20 * 1024 + 512] = b"x" * 512
    path.write_bytes(content)
    with pytest.raises(ImageDecodeError, match="truncated or damaged"):
        collect_statistics(open_source(path), Settings(), TOY)


@pytest.mark.parametrize("size", [-512, -1024, 2**62, 2**80])
def test_a_tar_ends_at_a_member_with_an_impossible_size(tmp_path, files, images, size):
    """A negative size leads back to the member's own header without end (CVE-2025-8194)."""
    path = write_tar(tmp_path / "a.tar", select_files(files, 0, 3))
    header = bytearray(tarfile.TarInfo("evil.png").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (size + (1 << 95 if size > 0 else 0)).to_bytes(12, "big", signed=size < 0)  # base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(path.read_bytes()[: 3 * 1024] + header + bytes(1024))
    with pytest.raises(ImageDecodeError, match=r"evil\.png: .*truncated or damaged"):
        collect_statistics(open_source(path), Settings(), TOY)
    np.testing.assert_array_equal(
        collect_statistics(open_source(path), Settings(on_bad_image="skip"), TOY).rows, first_six_values(images[:3])
    )


def test_links_and_paths_in_a_tar_do_not_lead_outside(tmp_path, files, images):
    secret = tmp_path / "secret.png"
    secret.write_bytes(files["0009.png"])
    members = {"../up.png": files["0000.png"], "/abs.png": files["0001.png"], "d/a.png": files["0002.png"]}
    links = [
        make_link("d/b.png", "a.png"),
        make_link("hard.png", "d/a.png", tarfile.LNKTYPE),
        make_link("out.png", str(secret)),
        make_link("up.png", "../secret.png"),
        make_link("fifo.png", "", tarfile.FIFOTYPE),
        make_link("readme.txt", "nowhere"),
    ]
    path = write_tar(tmp_path / "a.tar", members, links)
    statistics = collect_statistics(open_source(path), Settings(on_bad_image="skip"), TOY)
    np.testing.assert_array_equal(statistics.rows, first_six_values(images[[0, 1, 2, 2, 2]]))
    assert len(statistics.skipped_images) == 3
    assert sum("is a link to" in bad for bad in statistics.skipped_images) == 2
    assert not (tmp_path.parent / "up.png").exists()


@pytest.mark.slow
def test_a_path_in_a_table_is_not_followed(tmp_path, files):
    secret = tmp_path / "secret.png"
    secret.write_bytes(files["0000.png"])
    rows = [{"bytes": data, "path": None} for data in files.values()] + [{"bytes": None, "path": str(secret)}]
    parquet.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
    statistics = collect_statistics(open_source(tmp_path / "a.parquet"), Settings(on_bad_image="skip"), TOY)
    assert (statistics.n, len(statistics.skipped_images)) == (COUNT, 1)
    assert "paths in a table are not read" in statistics.skipped_images[0]


def test_an_hdf5_with_links_to_other_files_is_rejected(tmp_path, images):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["images"] = images
    with h5py.File(tmp_path / "link.h5", "w") as archive:
        archive["images"] = h5py.ExternalLink("other.h5", "images")
    with pytest.raises(SourceError, match="has no dataset of images"):
        open_source(tmp_path / "link.h5")
    with h5py.File(tmp_path / "virtual.h5", "w") as archive:
        layout = h5py.VirtualLayout(images.shape, np.uint8)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "images", images.shape)
        archive.create_virtual_dataset("images", layout)
    with pytest.raises(SourceError, match="stored in other files"):
        open_source(tmp_path / "virtual.h5")


def bad_table(**columns):
    return lambda path: parquet.write_table(pa.table(columns), path)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.tar", lambda path: path.write_bytes(b"not a tar" * 500), "cannot be read as one"),
        (
            "a.tar",
            lambda path: write_tar(path, {"a.txt": b"a"}),
            r"contains no images in a supported format: found 1 file, a\.txt",
        ),
        ("a.parquet", lambda path: path.write_bytes(b"PAR1" * 40), "cannot be read as a table"),
        ("a.parquet", bad_table(x=[1], text=["a"]), r"no column .*text \(string\)"),
        ("a.parquet", bad_table(one=[b"a"], two=[b"b"]), "several columns"),
        ("a.parquet", bad_table(image=pa.array([], pa.binary())), "has no rows"),
        ("a.h5", lambda path: path.write_bytes(b"text" * 40), "cannot be read as HDF5"),
        ("a.lmdb", lambda path: path.write_bytes(b"text" * 4000), "cannot be read as an LMDB"),
    ],
)
def test_files_without_images_are_rejected(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / name)


def test_a_damaged_row_group_stops_the_run_and_the_file_is_named(tmp_path, files, images):
    make_parquet(tmp_path, files, images)
    path = tmp_path / "train-0.parquet"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6000] = bytes(6000)
    path.write_bytes(content)
    with pytest.raises((ArchiveError, ImageDecodeError), match=r"train-0\.parquet"):
        collect_statistics(open_source(path), Settings(), TOY)


# --- objects of PyTorch and Hugging Face ------------------------------------------------------------------------------


@pytest.mark.slow
def test_datasets_and_loaders_of_pytorch(images):
    torch = pytest.importorskip("torch")

    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return COUNT

        def __getitem__(self, index):
            return torch.from_numpy(images[index]).permute(2, 0, 1), index % 10

    loader = torch.utils.data.DataLoader(Pairs(), batch_size=7)
    short = torch.utils.data.DataLoader(Pairs(), batch_size=7, drop_last=True)
    for given, count in ((Pairs(), COUNT), (loader, COUNT), (short, COUNT // 7 * 7)):
        statistics = collect_statistics(open_source(given), Settings(), TOY)
        np.testing.assert_array_equal(statistics.rows, first_six_values(images)[:count])
    subset = collect_statistics(open_source(loader), Settings(num_images=100), TOY)
    np.testing.assert_array_equal(subset.rows, first_six_values(images)[select_indices(100)])


@pytest.mark.parametrize("kind", ["arrays", "tensors", "PIL images", "pairs", "dicts", "grey"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7])
def test_a_batch_may_be_a_list_of_images(images, kind, batch_size):
    """A `collate_fn` may return a list: the rows of the first array of a batch are then not images."""
    torch = pytest.importorskip("torch")
    made = {
        "arrays": lambda image: image,
        "tensors": lambda image: torch.from_numpy(image).permute(2, 0, 1),
        "PIL images": Image.fromarray,
        "pairs": lambda image: (image, 3),
        "dicts": lambda image: {"image": image},
        "grey": lambda image: image[:, :, 0],
    }[kind]
    given = images[:23]
    loader = torch.utils.data.DataLoader([made(image) for image in given], batch_size=batch_size, collate_fn=list)
    statistics = collect_statistics(open_source(loader), Settings(), TOY)
    np.testing.assert_array_equal(
        statistics.rows, first_six_values(given[:, :, :, :1].repeat(3, axis=3) if kind == "grey" else given)
    )


def test_a_loader_with_batches_of_the_wrong_length_is_rejected(images):
    torch = pytest.importorskip("torch")
    loader = torch.utils.data.DataLoader(images[:20], batch_size=5, collate_fn=lambda batch: np.stack(batch[:-1]))
    with pytest.raises(ArchiveError, match="returned 4 images where a batch of 5"):
        collect_statistics(open_source(loader), Settings(), TOY)


def select_indices(count):
    from frechet.execution.chunks import Partition

    return list(Partition.from_source(open_source(list(range(COUNT))), Settings(num_images=count)).source_indices)


def test_float_tensors_and_loaders_without_length_are_rejected(images):
    torch = pytest.importorskip("torch")

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield torch.zeros(3, 4, 4)

    with pytest.raises(SourceError, match="does not know how many"):
        open_source(torch.utils.data.DataLoader(Endless()))
    floats = [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images[:4]]
    with pytest.raises(
        ImageDecodeError, match=r"is torch\.float32 of shape \(3, 4, 4\); expected uint8 \(3, h, w\).*ToTensor"
    ):
        collect_statistics(open_source(floats), Settings(), TOY)


def test_rows_of_a_hugging_face_dataset(images, files):
    class Dataset(list):
        """Like datasets.Dataset: dicts by index, and a fingerprint that changes with every transform."""

        _fingerprint = "abc"

    rows = Dataset({"image": Image.fromarray(image), "label": 3} for image in images[:300])
    rows += [{"img": {"bytes": data, "path": None}, "label": 3} for data in list(files.values())[300:]]
    source = open_source(rows)
    statistics = collect_statistics(source, Settings(), TOY)
    np.testing.assert_array_equal(statistics.rows, first_six_values(images))
    assert list(source.fingerprints([1, 2])) == ["abc 1", "abc 2"]
    with pytest.raises(ImageDecodeError, match="is a dict of 'label'"):
        collect_statistics(open_source([{"label": 1}] * 3), Settings(), TOY)


# --- unreliable stores ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_delays(monkeypatch):
    monkeypatch.setattr(remote_files, "_RETRY_DELAYS", (0.0, 0.0, 0.0, 0.0))


@pytest.mark.slow
def test_failed_requests_are_repeated(tmp_path, files, images, monkeypatch, no_delays):
    system = fsspec.filesystem("memory")
    original, requests = type(system).cat_file, Counter()

    def unreliable(self, path, start=None, end=None, **options):
        requests[path, start] += 1
        if requests[path, start] == 1:
            raise OSError("503 slow down")
        data = original(self, path, start=start, end=end, **options)
        return data[: len(data) // 2] if requests[path, start] == 2 else data

    monkeypatch.setattr(type(system), "cat_file", unreliable)
    for kind in ("folder", "tar", "parquet"):
        folder = tmp_path / kind
        folder.mkdir()
        statistics = collect_statistics(open_source(make_remote(kind)(folder, files, images)), Settings(), TOY)
        np.testing.assert_array_equal(statistics.rows, first_six_values(images))
    assert requests.total() >= 3 * COUNT


def test_messages_do_not_contain_credentials(monkeypatch, no_delays):
    """aiohttp's errors quote the whole URL; a signed one may expire during the run."""
    quoted = "403, message='Forbidden', url='https://me:SECRET@example.org/a.tar?signature=SECRET'"
    for error in (PermissionError(quoted), OSError(f"at (s3://key:SECRET@bucket/a.tar?x=SECRET): {quoted}")):
        with pytest.raises(UnreachableError) as caught:
            remote_files.call_with_retries(
                "https://example.org/a.tar?...", lambda error=error: (_ for _ in ()).throw(error)
            )
        assert "SECRET" not in str(caught.value)
        assert "https://example.org/a.tar?..." in str(caught.value)
    for url in ("https://me:SECRET@[example.org/a.tar", "https://me:SECRET@[example.org/a.npz"):
        with pytest.raises(FrechetError, match=r"https://\.\.\. is not a valid URL") as caught:
            frechet.score(url, url)
        assert "SECRET" not in str(caught.value)
    with pytest.raises(SourceError, match="more than 100000 files") as caught:
        open_source("https://me:SECRET@example.org/{00000..99999}{0..9}.tar")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("address", ["bad..name/x/*.png", "-bad-/c--d/data.zip"])
def test_an_invalid_address_of_the_hub_is_not_tried_again(no_delays, address):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(SourceError) as caught:
        open_source(f"hf://datasets/{address}")
    assert "attempts" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError("Forbidden"), "access is refused"),
        (TimeoutError("slow"), "could not be read in 5 attempts: slow"),
        (ValueError("the name is invalid"), "could not be read: the name is invalid"),
    ],
)
def test_an_unreachable_store_is_not_skipped_as_a_bad_image(
    tmp_path, files, images, monkeypatch, no_delays, error, message
):
    """Otherwise --on-bad-image skip would score whatever the store happens to return."""
    system = fsspec.filesystem("memory")
    url = make_remote("folder")(tmp_path, files, images)
    source = open_source(url)

    def refusing(self, path, **options):
        raise error

    monkeypatch.setattr(type(system), "cat_file", refusing)
    with pytest.raises(UnreachableError, match=message):
        collect_statistics(source, Settings(on_bad_image="skip"), TOY)
    monkeypatch.setattr(type(system), "info", refusing)
    with pytest.raises(SourceError, match=message):
        open_source("memory://a/b.zip")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nowhere/a.zip", "no such file in the store"),
        ("memory://nowhere/", "contains no images"),
        ("nonsense://user:secret@a/b.zip", "nonsense://a/b.zip cannot be read"),
        (
            "ftp://user:secret@127.0.0.1:1/b.zip",
            "ftp://127.0.0.1:1/b.zip cannot be read: .*refused.*pass the local folder",
        ),
        ("memory://a/b.png", "a single image has no distribution"),
    ],
)
def test_urls_without_images_are_rejected(url, message):
    with pytest.raises(SourceError, match=message) as caught:
        open_source(url)
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_images_on_a_web_server(tmp_path, files, images):
    content = make_zip(tmp_path, files, images).read_bytes()

    class Server(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.reply(content, 200, ("Accept-Ranges", "bytes"))

        def do_GET(self):
            byte_range = self.headers.get("Range")
            if byte_range:
                first, last = map(int, byte_range.removeprefix("bytes=").split("-"))
                self.reply(content[first : last + 1], 206, ("Content-Range", f"bytes {first}-{last}/{len(content)}"))
            else:
                self.reply(content, 200)

        def reply(self, body, status, *headers):
            self.send_response(status)
            for name, value in (("Content-Length", str(len(body))), *headers):
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args): ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = open_source(f"http://127.0.0.1:{server.server_port}/a.zip")
        statistics = collect_statistics(source, Settings(), TOY)
        np.testing.assert_array_equal(statistics.rows, first_six_values(images))
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "attempts", "message"),
    [
        (401, 1, r"access is refused \(401.*check the credentials"),
        (403, 1, r"access is refused \(403.*check the credentials"),
        (404, 1, "there is no such file in the store"),
        (410, 1, "there is no such file in the store"),
        (429, 5, "5 attempts.*429.*limits the number of requests; try again later"),
        (503, 5, "5 attempts.*503.*on the server's side; try again later"),
    ],
)
def test_http_errors_are_not_reported_as_missing_files(no_delays, status, attempts, message):
    """fsspec reports any HTTP error in its first request as FileNotFoundError."""
    methods = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            methods.append(self.command)
            self.send_error(status)

        do_GET = do_HEAD

        def log_message(self, *args): ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(SourceError, match=message):
            open_source(f"http://127.0.0.1:{server.server_port}/a.zip")
        server.shutdown()
    assert methods.count("GET") == attempts


def test_an_unreachable_web_server_is_not_reported_as_a_missing_file(no_delays):
    with pytest.raises(SourceError, match="could not be read in 5 attempts: Cannot connect to host"):
        open_source("http://127.0.0.1:9/a.zip")


OTHERS = {
    "b/x.GIF": b"GIF89a",
    "y.gif": b"",
    "z.heic": b"",
    "README.txt": b"",
    "classes.json": b"{}",
    "run.npz": b"",
    ".h.gif": b"",
}


def folder_with_others(folder, files, images):
    (folder / "b").mkdir()
    return make_folder(folder, {**files, **OTHERS}, images)


def zip_with_others(folder, files, images):
    return make_zip(folder, {**files, **OTHERS}, images)


def shards_with_others(folder, files, images):
    write_tar(folder / "0.tar", {**select_files(files, 0, 300), "y.gif": b"", "z.heic": b""})
    write_tar(folder / "1.tar", {**select_files(files, 300, COUNT), "y.GIF": b"", "README.txt": b""})
    return folder / "{0,1}.tar"


def remote_folder_with_others(folder, files, images):
    (folder / "b").mkdir()
    return make_remote("folder")(folder, {**files, **OTHERS}, images)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [folder_with_others, zip_with_others, shards_with_others, remote_folder_with_others])
def test_skipped_image_formats_are_reported_and_other_files_are_not(tmp_path, files, images, kind):
    source = open_source(kind(tmp_path, files, images))
    assert source.unsupported == {".gif": 2, ".heic": 1}
    notes = collect_statistics(source, Settings(), TOY).notes
    (note,) = (note for note in notes if "formats" in note)
    assert note.startswith("3 image files in unsupported formats were skipped (2 x .gif, 1 x .heic)")
    assert "convert them to PNG" in note
    assert not any("README" in note for note in notes)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.TAR.XZ"])
def test_a_compressed_tar_is_rejected_with_the_advice_to_unpack_it(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match="A compressed tar cannot be read in place: unpack it"):
        open_source(tmp_path / name)


@pytest.mark.slow
def test_other_files_next_to_images_are_not_reported(tmp_path, files, images):
    make_folder(
        tmp_path,
        {**files, "README.txt": b"", "labels.json": b"{}", "a.html": b"", "Makefile": b""},
        images,
    )
    assert collect_statistics(open_source(tmp_path), Settings(), TOY).notes == ()


MEASURE = """
import resource, sys
import toy
from toy import TOY
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.sources.registry import open_source
for count in (8, None):
    collect_statistics(open_source(sys.argv[1]), Settings(num_images=count), TOY)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npy", "npz", "zip", "tar", "parquet", "h5"])
def test_memory_does_not_grow_with_the_size_of_the_source(tmp_path, kind):
    """75 MB of images need little more memory than eight of them."""
    pixels = np.random.default_rng(0).integers(0, 256, (500, 224, 224, 3), np.uint8)
    encoded = {f"{index:03d}.ppm": b"P6 224 224 255\n" + image.tobytes() for index, image in enumerate(pixels)}
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, pixels)
    elif kind == "npz":
        np.savez(path, arr_0=pixels)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in encoded.items():
                archive.writestr(name, data)
    elif kind == "tar":
        write_tar(path, encoded)
    elif kind == "parquet":
        parquet.write_table(pa.table({"image": list(encoded.values())}), path, row_group_size=50)
    else:
        with h5py.File(path, "w") as archive:
            archive["images"] = pixels
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(toy.__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path], capture_output=True, text=True, env=environment, check=True
    )
    few, all_images = map(int, done.stdout.split())
    assert all_images - few < 25

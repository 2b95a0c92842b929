"""Several processes, one number: dealt out, gathered in order, and ended together when one of them fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
import toy
from helpers import assert_same_statistics, make_image_folder, run
from PIL import Image
from toy import TOY, first_six_values

import frechet
from frechet.errors import ImageDecodeError, MismatchError, RequestError, UnreachableError
from frechet.execution import chunks, dispatch, subprocess_workers, workers
from frechet.execution.chunks import Partition
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.features.extract import FeatureChunk
from frechet.images.image import ImageRef
from frechet.images.loader import CHUNK_SIZE
from frechet.images.sources.registry import open_source
from frechet.statistics.npz_format import read_statistics

pytestmark = pytest.mark.subprocess

CORNER = {"extractor": "toy_network:corner", "convention": "pytorch-fid"}
FLAGS = ("--preprocessing", "pytorch-fid", "--extractor")


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Ten parts and a bit."""
    images = np.random.default_rng(0).integers(0, 256, (10 * CHUNK_SIZE + 40, 4, 4, 3), np.uint8)
    path = tmp_path_factory.mktemp("toys") / "toys.npy"
    np.save(path, images)
    return path


@pytest.fixture
def large(monkeypatch):
    """A thousand images are many, and a large part is one of 512."""
    monkeypatch.setattr(chunks, "LARGE_CHUNK_THRESHOLD", 1000)
    monkeypatch.setattr(chunks, "LARGE_CHUNK_SIZE", 2 * CHUNK_SIZE)


@pytest.fixture
def importable(monkeypatch):
    """Other processes find the extractors of toy_network."""
    paths = [str(Path(toy.__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


class Line:
    """A `Channel` between threads."""

    def __init__(self, name, incoming, outgoing):
        self.name, self.incoming, self.outgoing = name, incoming, outgoing

    def send(self, kind, data):
        self.outgoing.put((kind, data))

    def receive(self):
        message = self.incoming.get(timeout=20)
        if message is None:
            raise EOFError
        return message


@pytest.fixture
def hired(monkeypatch):
    """Threads that serve as other processes would, with the toy extractor; the settings' engine is them."""
    monkeypatch.setattr(Settings, "load", lambda *_: TOY)
    threads = []

    def hire(count, spoil=lambda line: line):
        lines = []
        for number in range(count):
            there, back = Queue(), Queue()
            lines.append(Line(f"helper {number}", back, there))
            threads.append(threading.Thread(target=served, args=(spoil(Line("first", there, back)),)))
            threads[-1].start()
        monkeypatch.setattr(dispatch, "list_extra_devices", lambda _: ("some",))
        monkeypatch.setattr(dispatch, "start_workers", lambda _: lines)
        return lines

    def served(line):
        try:
            workers.serve(line)
        except Exception:
            line.outgoing.put(None)

    yield hire
    for line in dispatch.start_workers(("some",)):
        line.send(workers.END, b"")
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("count", [1, 2, 4, 15])
def test_any_number_of_processes_gives_the_same_bits(toys, hired, count):
    """Fifteen is more than there are parts: some have nothing to do."""
    expected = collect_statistics(open_source(toys), Settings(), TOY)
    hired(count)
    found = collect_statistics(open_source(toys), Settings(), TOY)
    assert_same_statistics(found, expected)
    np.testing.assert_array_equal(found.rows, first_six_values(np.load(toys))[found.indices])


@pytest.mark.parametrize("kind", ["array", "folder", "zip", "pattern", "braces", "whole"])
def test_a_relative_path_is_the_same_images_to_all(kind, toys, hired, tmp_path, monkeypatch):
    """The others may have another working folder, so they are told the whole path."""
    there = tmp_path / "a folder"
    there.mkdir()
    (there / "below").mkdir()
    shutil.copy(toys, there / "0.npy")
    make_image_folder(there / "images", CHUNK_SIZE + 20, size=(4, 4))
    with zipfile.ZipFile(there / "images.zip", "w") as archive:
        for path in sorted((there / "images").iterdir()):
            archive.write(path, path.name)
    monkeypatch.chdir(there / "below")
    given = {"array": "../0.npy", "folder": "../images/", "zip": ".././images.zip", "pattern": "../{0.npy,images.zip}"}
    given |= {"braces": "{../0.npy,../images.zip}", "whole": f"{{{there}/0.npy,{there}/images.zip}}"}
    expected = collect_statistics(open_source(given[kind]), Settings(), TOY)
    hired(1)
    assert_same_statistics(collect_statistics(open_source(given[kind]), Settings(), TOY), expected)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_large_parts_are_condensed_by_whoever_computes_them(toys, hired, large, monkeypatch, count):
    """Seven is more than there are parts."""
    expected = collect_statistics(open_source(toys), Settings(), TOY)
    hired(count)
    features = workers.encode_chunk
    sent = []
    monkeypatch.setattr(workers, "encode_chunk", lambda part: sent.append(type(part)) or features(part))
    told = []
    found = collect_statistics(open_source(toys), Settings(batch_size=64), TOY, lambda *what: told.append(what[1]))
    assert_same_statistics(found, expected)
    assert sent == [chunks.SummaryChunk] * len([number for number in range(6) if number % (count + 1)])
    assert told[-1] == 10 * CHUNK_SIZE + 40
    assert 64 in np.diff(told)


def test_helpers_serve_several_sides_and_a_resumed_run(toys, hired, tmp_path):
    expected = collect_statistics(open_source(toys), Settings(num_images=700), TOY)
    hired(2)
    settings = Settings(num_images=700, work_dir=tmp_path)
    collect_statistics(open_source(toys), settings, TOY)
    (tmp_path / "images" / "part-00000001.npz").unlink()
    again = collect_statistics(open_source(toys), settings, TOY)
    np.testing.assert_array_equal(again.covariance, expected.covariance)


def test_progress_counts_what_others_did(toys, hired):
    hired(2)
    told = []
    collect_statistics(open_source(toys), Settings(), TOY, lambda *what: told.append(what))
    assert told[0] == ("images", 0, 10 * CHUNK_SIZE + 40)
    assert told[-1] == ("images", 10 * CHUNK_SIZE + 40, 10 * CHUNK_SIZE + 40)


def test_what_a_helper_raises_is_raised_here(tmp_path, hired):
    folder = tmp_path / "a"
    folder.mkdir()
    for place in range(CHUNK_SIZE + 5):
        Image.new("RGB", (4, 4)).save(folder / f"{place:03d}.ppm")
    (folder / "260.ppm").write_text("broken")
    hired(1)
    with pytest.raises(ImageDecodeError, match=r"helper 0: .*260\.ppm"):
        collect_statistics(open_source(folder), Settings(), TOY)


def test_a_helper_that_is_gone_is_told(toys, hired):
    class Mute(Line):
        def send(self, kind, data):
            raise OSError("broken pipe")

    hired(1, lambda line: Mute(line.name, line.incoming, line.outgoing))
    with pytest.raises(UnreachableError, match="helper 0 is gone"):
        collect_statistics(open_source(toys), Settings(), TOY)


def test_a_helper_that_sees_other_images_refuses(toys, hired, monkeypatch):
    hired(1)
    genuine = workers.open_source
    monkeypatch.setattr(workers, "open_source", lambda address: genuine([np.zeros((4, 4, 3), np.uint8)] * 300))
    with pytest.raises(MismatchError, match="helper 0: this process sees other images"):
        collect_statistics(open_source(toys), Settings(), TOY)


def test_a_helper_with_other_weights_refuses(toys, hired, monkeypatch):
    hired(1)
    monkeypatch.setattr(Settings, "load", lambda *_, **__: replace(TOY, spec=replace(TOY.spec, weights="1" * 64)))
    with pytest.raises(MismatchError, match="other weights"):
        collect_statistics(open_source(toys), Settings(), TOY)


@pytest.mark.parametrize("size", [CHUNK_SIZE, 2 * CHUNK_SIZE])
def test_processes_of_this_machine(toys, importable, size):
    """As for several accelerators, on the processor; they take the size of parts from the job."""
    pytest.importorskip("torch")
    settings = Settings(device="cpu", **CORNER)
    extractor = settings.load()
    partition = replace(workers.Partition.from_source(open_source(toys), settings), size=size)
    pipe = subprocess_workers._started("cpu")
    gathered = list(workers.gathered(partition, range(len(partition)), settings, extractor, [pipe]))
    alone = list(workers.extract_chunks(partition, range(len(partition)), settings, extractor))
    assert len(gathered) == len(alone) == len(partition) == -(-(10 * CHUNK_SIZE + 40) // size)
    assert {type(part) for part in alone} == {FeatureChunk if size == CHUNK_SIZE else chunks.SummaryChunk}
    assert [workers.encode_chunk(part) for part in gathered] == [workers.encode_chunk(part) for part in alone]


def test_cuda_means_every_accelerator(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert subprocess_workers.list_extra_devices("cuda") == ("cuda:1", "cuda:2")
    assert subprocess_workers.list_extra_devices("cuda:2") == subprocess_workers.list_extra_devices("auto") == ()


def test_shares_of_the_cores_are_disjoint_and_complete():
    probe = (
        "import os, sys; from frechet._internal.cpu import take_share; os.sched_getaffinity = lambda _: set(range(7));"
        "os.sched_setaffinity = lambda _, cores: print(cores); [take_share(i, int(sys.argv[1])) for i in range(int(sys.argv[1]))]"
    )

    def shares(count):
        done = subprocess.run([sys.executable, "-c", probe, str(count)], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert shares(3) == [[0, 1], [2, 3], [4, 5, 6]]
    assert len(shares(9)) == 9
    assert all(len(share) == 1 for share in shares(9))


# torchrun


def torchrun(ranks, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "-m", "frechet"]
    return subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Five parts and one."""
    folder = tmp_path_factory.mktemp("sides")
    random = np.random.default_rng(0)
    np.save(folder / "a.npy", random.integers(0, 256, (4 * CHUNK_SIZE + 30, 4, 4, 3), np.uint8))
    np.save(folder / "b.npy", random.integers(0, 200, (40, 4, 4, 3), np.uint8))
    return folder / "a.npy", folder / "b.npy"


def test_torchrun_gives_the_number_of_one_process(sides, importable):
    """Three ranks have two, two and one part of one side; one and none of the other."""
    pytest.importorskip("torch")
    process = torchrun(3, "score", *sides, *FLAGS, "toy_network:corner", "--json")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    expected = frechet.score(*map(str, sides), **CORNER)["fd"]
    assert json.loads(out)["scores"]["fd"]["value"] == pytest.approx(float(expected), rel=1e-9)


def test_a_rank_that_is_killed_ends_all_with_a_message(tmp_path, importable):
    pytest.importorskip("torch")
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (60 * CHUNK_SIZE, 4, 4, 3), np.uint8))
    process = torchrun(
        2,
        "stats",
        tmp_path / "a.npy",
        tmp_path / "s.npz",
        *FLAGS,
        "toy_network:slow_corner",
        "--work-dir",
        tmp_path / "work",
    )
    while not list(tmp_path.glob("work/images/part-*")):
        time.sleep(0.1)
        assert process.poll() is None
    os.kill(rank_of(process.pid, 1), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode
    assert "rank 1 is gone" in err or "SIGKILL" in err
    assert list(tmp_path.glob("work/images/part-*"))
    assert not (tmp_path / "s.npz").exists()


def test_ranks_condense_large_parts(tmp_path, importable, large):
    pytest.importorskip("torch")
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (4 * CHUNK_SIZE + 30, 4, 4, 3), np.uint8))
    process = torchrun(
        2,
        "stats",
        tmp_path / "a.npy",
        tmp_path / "s.npz",
        *FLAGS,
        "toy_large_chunks:corner",
        "--work-dir",
        tmp_path / "work",
    )
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert len(list(tmp_path.glob("work/images/part-*"))) == 3
    assert_same_statistics(read_statistics(tmp_path / "s.npz"), frechet.collect(tmp_path / "a.npy", **CORNER))


def rank_of(parent, rank):
    """The process of that rank below torchrun."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                status, environment = (entry / "stat").read_text(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if status.rpartition(")")[2].split()[1] == str(parent) and f"\0RANK={rank}\0".encode() in environment:
                return int(entry.name)
    raise AssertionError(f"no rank {rank}")


def test_engines_that_are_not_there_are_explained(sides):
    code, _, err = run("score", *sides, *FLAGS, "toy_network:corner", "--engine", "torchrun")
    assert code == 2
    assert "torchrun --nproc-per-node" in err
    code, _, err = run("score", *sides, *FLAGS, "toy_network:corner", "--engine", "nonsense")
    assert code == 2
    assert "local, torchrun, ray" in err


# Ray


def test_ray_without_ray_is_explained(sides, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequestError, match=r"pip install 'frechet\[ray\]'"):
        collect_statistics(open_source(sides[0]), Settings(engine="ray"), TOY)


def test_objects_in_memory_stay_in_this_process(hired):
    images = [np.zeros((4, 4, 3), np.uint8)] * 3
    hired(1)
    assert collect_statistics(open_source(images), Settings(), TOY).n == 3


@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize("size", [CHUNK_SIZE, 2 * CHUNK_SIZE])
def test_a_ray_cluster_that_loses_a_node_gives_the_same_number(tmp_path, importable, monkeypatch, size):
    """In parts of 256 images, and in large ones."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    images = np.random.default_rng(0).integers(0, 256, (40 * CHUNK_SIZE + 30, 4, 4, 3), np.uint8)
    np.save(tmp_path / "a.npy", images)
    if size > CHUNK_SIZE:
        monkeypatch.setattr(chunks, "LARGE_CHUNK_THRESHOLD", 1000)
        monkeypatch.setattr(chunks, "LARGE_CHUNK_SIZE", size)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    other = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    wish = {"extractor": "toy_network:slow_corner", "convention": "pytorch-fid"}
    told, nodes = [], set()

    def progress(what, done, total):
        told.append(done)
        nodes.update(node["NodeID"] for node in ray.nodes() if node["Alive"])
        if len(told) == 8:
            cluster.remove_node(other, allow_graceful=False)

    try:
        ray.init(address=cluster.address, log_to_driver=False)
        found = frechet.collect(tmp_path / "a.npy", engine="ray", progress=progress, **wish)
    finally:
        ray.shutdown()
        cluster.shutdown()
    expected = frechet.collect(tmp_path / "a.npy", **{**wish, "extractor": "toy_network:corner"})
    assert len(told) == 1 + -(-len(images) // size)
    assert len(nodes) == 2
    assert_same_statistics(found, expected)


@pytest.mark.parametrize("numbers", [range(10_000), range(1, 3), [0, 2], [3], [9_999], []])
@pytest.mark.parametrize("step", [1, 2])
def test_the_images_of_many_parts_are_not_listed(numbers, step):
    """Parts that follow each other are a range to their source; every picture keeps its index among the chosen."""
    asked = []

    class ImageSource:
        def iter_images(self, indices):
            asked.append(indices)
            return (ImageRef(index, str(place), lambda: None) for index, place in enumerate(indices))

    partition = Partition(ImageSource(), range(0, step * 256 * 10_000 - 3, step))
    tracemalloc.start()
    found = [(image_ref.index, image_ref.label) for image_ref in islice(partition.iter_images(numbers), 600)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = islice((i for number in numbers for i in partition.chunk_range(number)), 600)
    assert found == [(index, str(index * step)) for index in expected]
    assert peak < 1e6

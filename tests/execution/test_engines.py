"""Several processes compute one run: the same bits for any number of them, and an error that ends all of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
import zipfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from queue import Queue
from unittest.mock import Mock

import numpy as np
import pytest
import toy
from forks import TORCHRUN, ForkedProgram
from helpers import assert_same_statistics, make_image_folder, run
from PIL import Image
from toy import TOY, first_six_values

import frechet
from frechet.errors import ImageDecodeError, MismatchError, RequestError, UnreachableError
from frechet.execution import chunks, dispatch, subprocess_workers, workers
from frechet.execution.chunks import Partition
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.image import ImageRef
from frechet.images.loader import CHUNK_SIZE
from frechet.images.sources.registry import open_source
from frechet.statistics.npz_format import read_statistics

pytestmark = pytest.mark.subprocess

CORNER = {"extractor": "toy_network:corner", "preprocessing": "pytorch-fid"}
FLAGS = ("--preprocessing", "pytorch-fid", "--extractor")


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Images of ten chunks and a short one."""
    images = np.random.default_rng(0).integers(0, 256, (10 * CHUNK_SIZE + 40, 4, 4, 3), np.uint8)
    path = tmp_path_factory.mktemp("toys") / "toys.npy"
    np.save(path, images)
    return path


@pytest.fixture
def large(monkeypatch):
    """Use large chunks of 512 images above 1,000 images."""
    monkeypatch.setattr(chunks, "LARGE_CHUNK_THRESHOLD", 1000)
    monkeypatch.setattr(chunks, "LARGE_CHUNK_SIZE", 2 * CHUNK_SIZE)


@pytest.fixture
def importable(monkeypatch):
    """Let other processes import toy_network."""
    paths = [str(Path(toy.__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


class QueueChannel:
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
def start_worker_threads(monkeypatch):
    """Start threads that serve as worker processes would, with the toy extractor."""
    monkeypatch.setattr(Settings, "load", lambda *_: TOY)
    threads = []

    def start(count, wrap=lambda channel: channel):
        channels = []
        for number in range(count):
            requests, results = Queue(), Queue()
            channels.append(QueueChannel(f"worker {number}", results, requests))
            worker_channel = wrap(QueueChannel("the coordinator", requests, results))
            threads.append(threading.Thread(target=serve, args=(worker_channel,)))
            threads[-1].start()
        monkeypatch.setattr(dispatch, "list_extra_devices", lambda *_: ("some",))
        monkeypatch.setattr(dispatch, "start_workers", lambda _: channels)

    def serve(channel):
        try:
            workers.serve(channel)
        except Exception:
            traceback.print_exc()
            channel.outgoing.put(None)

    yield start
    for channel in dispatch.start_workers(("some",)):
        channel.send(workers.END, b"")
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("count", [1, 2, 4, 15])
def test_any_number_of_processes_gives_the_same_bits(toys, start_worker_threads, count):
    """Fifteen processes are more than there are chunks: some have nothing to do."""
    expected = collect_statistics(open_source(toys), Settings(), TOY)
    start_worker_threads(count)
    found = collect_statistics(open_source(toys), Settings(), TOY)
    assert_same_statistics(found, expected)
    np.testing.assert_array_equal(found.rows, first_six_values(np.load(toys))[found.indices])


@pytest.mark.parametrize("kind", ["array", "folder", "zip", "pattern", "braces", "whole"])
def test_workers_open_relative_paths(kind, toys, start_worker_threads, tmp_path, monkeypatch):
    """Workers may have another working directory, so they receive the absolute path."""
    base = tmp_path / "a folder"
    base.mkdir()
    (base / "below").mkdir()
    shutil.copy(toys, base / "0.npy")
    make_image_folder(base / "images", CHUNK_SIZE + 20, size=(4, 4))
    with zipfile.ZipFile(base / "images.zip", "w") as archive:
        for path in sorted((base / "images").iterdir()):
            archive.write(path, path.name)
    monkeypatch.chdir(base / "below")
    given = {"array": "../0.npy", "folder": "../images/", "zip": ".././images.zip", "pattern": "../{0.npy,images.zip}"}
    given |= {"braces": "{../0.npy,../images.zip}", "whole": f"{{{base}/0.npy,{base}/images.zip}}"}
    expected = collect_statistics(open_source(given[kind]), Settings(), TOY)
    start_worker_threads(1)
    assert_same_statistics(collect_statistics(open_source(given[kind]), Settings(), TOY), expected)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_large_chunks_are_merged_by_the_worker_that_computes_them(
    toys, start_worker_threads, large, monkeypatch, count
):
    """Seven workers are more than there are chunks."""
    expected = collect_statistics(open_source(toys), Settings(), TOY)
    start_worker_threads(count)
    encode_chunk = workers.encode_chunk
    sent, progress = [], []
    monkeypatch.setattr(workers, "encode_chunk", lambda chunk: sent.append(chunk) or encode_chunk(chunk))
    found = collect_statistics(open_source(toys), Settings(batch_size=64), TOY, lambda *args: progress.append(args[1]))
    assert_same_statistics(found, expected)
    expected_sizes = sorted([512, 512, 512, 512, 512, 40][index] for index in range(6) if index % (count + 1))
    assert sorted(chunk.n_images for chunk in sent) == expected_sizes
    assert all(chunk.layers["features"].stored_groups for chunk in sent if chunk.n_images == 512)
    assert progress[-1] == 10 * CHUNK_SIZE + 40
    assert 64 in np.diff(progress)


def test_workers_serve_several_inputs_and_a_resumed_run(toys, start_worker_threads, tmp_path):
    expected = collect_statistics(open_source(toys), Settings(num_images=700), TOY)
    start_worker_threads(2)
    settings = Settings(num_images=700, work_dir=tmp_path)
    collect_statistics(open_source(toys), settings, TOY)
    (tmp_path / "images" / "chunk-00000001.npz").unlink()
    again = collect_statistics(open_source(toys), settings, TOY)
    np.testing.assert_array_equal(again.covariance, expected.covariance)


def test_progress_counts_the_images_of_workers(toys, start_worker_threads):
    start_worker_threads(2)
    calls = []
    collect_statistics(open_source(toys), Settings(), TOY, lambda *args: calls.append(args))
    assert calls[0] == ("images", 0, 10 * CHUNK_SIZE + 40)
    assert calls[-1] == ("images", 10 * CHUNK_SIZE + 40, 10 * CHUNK_SIZE + 40)


def test_an_error_in_a_worker_is_raised_in_the_coordinator(tmp_path, start_worker_threads):
    folder = tmp_path / "a"
    folder.mkdir()
    for place in range(CHUNK_SIZE + 5):
        Image.new("RGB", (4, 4)).save(folder / f"{place:03d}.ppm")
    (folder / "260.ppm").write_text("broken")
    start_worker_threads(1)
    with pytest.raises(ImageDecodeError, match=r"worker 0: .*260\.ppm"):
        collect_statistics(open_source(folder), Settings(), TOY)


def test_a_lost_worker_is_reported(toys, start_worker_threads):
    class BrokenChannel(QueueChannel):
        def send(self, kind, data):
            raise OSError("broken pipe")

    start_worker_threads(1, lambda channel: BrokenChannel(channel.name, channel.incoming, channel.outgoing))
    with pytest.raises(UnreachableError, match="worker 0 ended unexpectedly"):
        collect_statistics(open_source(toys), Settings(), TOY)


def test_a_worker_that_has_other_images_is_rejected(toys, start_worker_threads, monkeypatch):
    start_worker_threads(1)
    monkeypatch.setattr(workers, "open_source", lambda _: open_source([np.zeros((4, 4, 3), np.uint8)] * 300))
    with pytest.raises(MismatchError, match="worker 0: this process and the coordinator have different images"):
        collect_statistics(open_source(toys), Settings(), TOY)


def test_a_worker_that_has_other_weights_is_rejected(toys, start_worker_threads, monkeypatch):
    start_worker_threads(1)
    monkeypatch.setattr(Settings, "load", lambda *_, **__: replace(TOY, spec=replace(TOY.spec, weights="1" * 64)))
    with pytest.raises(MismatchError, match="different weights"):
        collect_statistics(open_source(toys), Settings(), TOY)


@pytest.mark.parametrize("size", [CHUNK_SIZE, 2 * CHUNK_SIZE])
def test_worker_processes_compute_the_same_bytes(toys, importable, size):
    """The workers that serve several accelerators, here on the CPU; the job determines the chunk size."""
    pytest.importorskip("torch")
    settings = Settings(device="cpu", **CORNER)
    extractor = settings.load()
    partition = replace(workers.Partition.from_source(open_source(toys), settings), chunk_size=size)
    channel = subprocess_workers._start_worker("cpu")
    collected = list(workers.collect_from_workers(partition, range(len(partition)), settings, extractor, [channel]))
    alone = list(workers.extract_chunks(partition, range(len(partition)), settings, extractor))
    assert len(collected) == len(alone) == len(partition) == -(-(10 * CHUNK_SIZE + 40) // size)
    assert [workers.encode_chunk(chunk) for chunk in collected] == [workers.encode_chunk(chunk) for chunk in alone]


def test_a_worker_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(subprocess_workers, "_STOP_SECONDS", 0.1)
    process = subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    subprocess_workers._stop_worker(process, subprocess_workers.PipeChannel("worker", process.stdout, process.stdin))
    assert process.returncode == -signal.SIGKILL


def test_the_next_run_gets_no_chunks_of_a_run_that_was_given_up(toys, tmp_path, monkeypatch, importable):
    pytest.importorskip("torch")
    monkeypatch.setattr(dispatch, "list_extra_devices", lambda *_: ("cpu",))
    np.save(tmp_path / "other.npy", 255 - np.load(toys))
    settings = Settings(device="cpu", **CORNER)
    extractor = settings.load()
    first, second = (Partition.from_source(open_source(path), settings) for path in (toys, tmp_path / "other.npy"))
    with dispatch.open_chunks(first, settings, extractor, None, "first") as chunks:
        next(chunks)
    with dispatch.open_chunks(second, settings, extractor, None, "second") as chunks:
        found = [next(chunks) for _ in range(len(second))]
    expected = workers.extract_chunks(second, range(len(second)), settings, extractor)
    assert [workers.encode_chunk(chunk) for chunk in found] == [workers.encode_chunk(chunk) for chunk in expected]
    pid = subprocess_workers._running[0][0].pid
    with dispatch.open_chunks(second, settings, extractor, None, "again") as chunks:
        next(chunks)
        assert subprocess_workers._running[0][0].pid == pid  # the second run was complete
    assert not subprocess_workers._running


def test_ranks_of_a_training_leave_the_accelerators_of_the_others_alone(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    list_devices = subprocess_workers.list_extra_devices
    assert list_devices("auto", "cuda:0", 9) == ("cuda:1", "cuda:2")
    assert list_devices("auto", "cuda:1", 9) == ()  # after torch.cuda.set_device(1)
    with monkeypatch.context() as context:
        context.setenv("LOCAL_RANK", "0")
        assert list_devices("auto", "cuda:0", 9) == ()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert list_devices("auto", "cuda:0", 9) == ()


def test_each_device_has_one_worker_whatever_the_number_of_chunks(monkeypatch):
    started = []
    monkeypatch.setattr(subprocess_workers, "start_child", lambda _, arguments: started.append(*arguments) or Mock())
    monkeypatch.setattr(subprocess_workers.atexit, "register", lambda *_: None)
    few = subprocess_workers.start_workers(("fake:1",))
    many = subprocess_workers.start_workers(("fake:1", "fake:2"))
    subprocess_workers.stop_workers()
    assert started == ["fake:1", "fake:2"]
    assert few[0] is many[0]


def test_shares_of_the_cores_are_disjoint_and_complete():
    probe = (
        "import os, sys; from frechet._internal.cpu import set_cpu_affinity; os.sched_getaffinity = lambda _: set(range(7));"
        "os.sched_setaffinity = lambda _, cores: print(cores); [set_cpu_affinity(i, int(sys.argv[1])) for i in range(int(sys.argv[1]))]"
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
def inputs(tmp_path_factory):
    """Images of five chunks, and of one."""
    folder = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    np.save(folder / "a.npy", random.integers(0, 256, (4 * CHUNK_SIZE + 30, 4, 4, 3), np.uint8))
    np.save(folder / "b.npy", random.integers(0, 200, (40, 4, 4, 3), np.uint8))
    return folder / "a.npy", folder / "b.npy"


def test_torchrun_gives_the_number_of_one_process(inputs, importable):
    """Three ranks have two, two and one chunk of one input, and one, none and none of the other."""
    pytest.importorskip("torch")
    process = torchrun(3, "score", *inputs, *FLAGS, "toy_network:corner", "--json")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    expected = frechet.score(*map(str, inputs), **CORNER)["fd"]
    assert json.loads(out)["scores"]["fd"]["value"] == pytest.approx(float(expected), rel=1e-9)


def test_a_killed_rank_ends_the_run_with_a_message(tmp_path, importable):
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
    while not list(tmp_path.glob("work/images/chunk-*")):
        time.sleep(0.1)
        assert process.poll() is None
    os.kill(rank_of(process.pid, 1), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode
    assert "rank 1 ended unexpectedly" in err or "SIGKILL" in err
    assert list(tmp_path.glob("work/images/chunk-*"))
    assert not (tmp_path / "s.npz").exists()


def test_ranks_merge_large_chunks(tmp_path, importable, large):
    pytest.importorskip("torch")
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (4 * CHUNK_SIZE + 30, 4, 4, 3), np.uint8))
    arguments = ["stats", tmp_path / "a.npy", tmp_path / "s.npz", *FLAGS, "toy_large_chunks:corner"]
    arguments += ["--work-dir", tmp_path / "work"]
    program = Path(frechet.__file__).with_name("__main__.py")
    ForkedProgram(tmp_path / "output.txt", TORCHRUN, program, *arguments).finish()
    assert len(list(tmp_path.glob("work/images/chunk-*"))) == 3
    assert_same_statistics(read_statistics(tmp_path / "s.npz"), frechet.collect(tmp_path / "a.npy", **CORNER))


def rank_of(parent, rank):
    """Return the process id of a rank that torchrun started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                status, environment = (entry / "stat").read_text(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if status.rpartition(")")[2].split()[1] == str(parent) and f"\0RANK={rank}\0".encode() in environment:
                return int(entry.name)
    raise AssertionError(f"no rank {rank}")


def test_unavailable_engines_are_explained(inputs):
    code, _, err = run("score", *inputs, *FLAGS, "toy_network:corner", "--engine", "torchrun")
    assert code == 2
    assert "torchrun --nproc-per-node" in err
    code, _, err = run("score", *inputs, *FLAGS, "toy_network:corner", "--engine", "nonsense")
    assert code == 2
    assert "local, torchrun, ray" in err


# Ray


def test_a_missing_ray_is_explained(inputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequestError, match=r"pip install 'frechet\[ray\]'"):
        collect_statistics(open_source(inputs[0]), Settings(engine="ray"), TOY)


def test_images_in_memory_are_processed_without_workers(start_worker_threads):
    images = [np.zeros((4, 4, 3), np.uint8)] * 3
    start_worker_threads(1)
    assert collect_statistics(open_source(images), Settings(), TOY).n == 3


@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize("size", [CHUNK_SIZE, 2 * CHUNK_SIZE])
def test_a_ray_cluster_that_loses_a_node_gives_the_same_number(tmp_path, importable, monkeypatch, size):
    """With small and with large chunks."""
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
    options = {"extractor": "toy_network:slow_corner", "preprocessing": "pytorch-fid"}
    calls, nodes = [], set()

    def progress(name, done, total):
        calls.append(done)
        nodes.update(node["NodeID"] for node in ray.nodes() if node["Alive"])
        if len(calls) == 8:
            cluster.remove_node(other, allow_graceful=False)

    try:
        ray.init(address=cluster.address, log_to_driver=False)
        found = frechet.collect(tmp_path / "a.npy", engine="ray", progress=progress, **options)
    finally:
        ray.shutdown()
        cluster.shutdown()
    expected = frechet.collect(tmp_path / "a.npy", **{**options, "extractor": "toy_network:corner"})
    assert len(calls) == 1 + -(-len(images) // size)
    assert len(nodes) == 2
    assert_same_statistics(found, expected)


@pytest.mark.parametrize("chunk_indices", [range(10_000), range(1, 3), [0, 2], [3], [9_999], []])
@pytest.mark.parametrize("step", [1, 2])
def test_the_images_of_many_chunks_are_not_listed(chunk_indices, step):
    """Only indices that are not consecutive are; every image has its index among the images to score."""

    class ImageSource:
        def iter_images(self, indices):
            return (ImageRef(index=0, label=str(index), load=lambda: None) for index in indices)

    partition = Partition(ImageSource(), range(0, step * 256 * 10_000 - 3, step))
    tracemalloc.start()
    found = [(image_ref.index, image_ref.label) for image_ref in islice(partition.iter_images(chunk_indices), 600)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = islice((i for chunk_index in chunk_indices for i in partition.chunk_range(chunk_index)), 600)
    assert found == [(index, str(index * step)) for index in expected]
    assert peak < 1e6

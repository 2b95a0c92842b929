"""Images that processes decode are those of threads: pixels, order, notes, errors, limits; and no process is left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image, ImageFile

from frechet.errors import ImageDecodeError, RequestError
from frechet.execution.settings import Settings
from frechet.images import decode_processes, decode_worker
from frechet.images.checks import IMAGE_CHECK, CheckedImage
from frechet.images.decode import decode
from frechet.images.decode_processes import DecodeProcesses
from frechet.images.image import ImageRef
from frechet.images.loader import load_batches
from frechet.images.sources.files import FileLoader
from frechet.images.sources.registry import open_source

COUNT = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small images of several kinds; every 50th is damaged, and one is too large for the processes."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = random.integers(0, 256, (8 + number % 3, 9, 3 + (number % 7 == 0)), np.uint8)
        if number % 11 == 5:
            pixels = random.integers(1, 4096, (8, 9), np.uint16)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        if number % 50 == 49:
            (folder / f"{number:03}.png").write_bytes(b"no image")
    Image.fromarray(random.integers(0, 256, (300, 300, 3), np.uint8)).save(folder / "010.png")
    return folder


def load(folder, kind="processes", **options):
    source = open_source(folder)
    options = {
        "workers": 2,
        "skip_bad_images": True,
        "max_pixels": 10**6,
        "is_left_to_device": lambda *_: True,
        **options,
    }
    return load_batches(
        source.iter_images(range(len(source))), None, size=8, batch_size=32, workers_kind=kind, **options
    )


def describe(batch):
    return (
        batch.chunk_index,
        [ref.label for ref in batch.image_refs],
        [(image.shape, image.tobytes()) for image in batch.pixels],
        batch.image_checks.tolist(),
        batch.notes,
        batch.skipped_images,
    )


@pytest.fixture
def started(monkeypatch):
    """The processes that are started."""
    processes, start = [], decode_processes.start_child

    def start_and_note(*arguments):
        processes.append(start(*arguments))
        return processes[-1]

    monkeypatch.setattr(decode_processes, "start_child", start_and_note)
    return processes


@pytest.mark.subprocess
def test_processes_return_what_threads_return(folder, started):
    expected = [describe(batch) for batch in load(folder, "threads")]
    assert not started
    assert [describe(batch) for batch in load(folder)] == expected
    assert 1 <= len(started) <= 2
    assert all(process.returncode is not None for process in started)


@pytest.mark.subprocess
def test_files_that_only_a_configured_pillow_accepts(folder, tmp_path, monkeypatch):
    """The processes do not know that a training script has set this."""
    whole = (folder / "010.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole)
    Image.open(folder / "011.png").convert("RGB").resize((90, 80)).save(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:-300])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    batches = [[describe(batch) for batch in load(tmp_path, kind)] for kind in ("threads", "processes")]
    assert batches[0] == batches[1]
    assert batches[0][0][1] == [str(tmp_path / "a.png"), str(tmp_path / "b.jpg")]


@pytest.mark.subprocess
def test_there_are_at_most_as_many_processes_as_the_limit(folder, monkeypatch, started):
    monkeypatch.setattr(decode_processes, "_MAX_PROCESSES", 1)
    expected = [describe(batch) for batch in load(folder, "threads", workers=3)]
    assert [describe(batch) for batch in load(folder, workers=3)] == expected
    assert len(started) == 1


@pytest.mark.subprocess
def test_an_error_ends_the_run_and_the_processes(folder, started):
    messages = []
    for kind in ("threads", "processes"):
        with pytest.raises(ImageDecodeError) as caught:
            list(load(folder, kind, skip_bad_images=False, workers=1))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "049.png" in messages[0]
    assert [process.returncode is None for process in started] == [False]


@pytest.mark.subprocess
def test_a_run_that_is_given_up_leaves_no_process(folder, started):
    batches = load(folder)
    next(batches)
    batches.close()
    assert started
    assert all(process.returncode is not None for process in started)


@pytest.mark.subprocess
def test_a_process_that_is_killed_is_replaced_by_its_thread(folder, started):
    expected = [describe(batch) for batch in load(folder, "threads")]
    batches = load(folder, workers=1)
    found = [describe(next(batches))]
    started[0].kill()
    found += [describe(batch) for batch in batches]
    assert found == expected
    assert len(started) == 1


def test_processes_start_after_many_small_images_in_a_row(folder, monkeypatch):
    """The groups of the image of 300 x 300 pixels, and of those that cannot be decoded, end a row."""
    groups = []
    monkeypatch.setattr(decode_processes, "_IMAGES_BEFORE_PROCESSES", {64 * 64 * 3: 10})
    monkeypatch.setattr(decode_processes, "start_child", lambda *_: groups.append(1) or (_ for _ in ()).throw(OSError))
    list(load(folder, "auto", workers=1))
    assert not groups  # a single thread does not wait for another one
    list(load(folder, "auto"))
    assert groups
    monkeypatch.setattr(decode_processes, "_IMAGES_BEFORE_PROCESSES", {64 * 64 * 3: 100})
    groups.clear()
    list(load(folder, "auto"))
    assert not groups


def count_rows(*sizes, group=32):
    """Return the images in a row that are counted for each limit after groups of images of these sizes."""
    processes = DecodeProcesses("auto", 2, 10**6)
    for side in sizes:
        processes.count([CheckedImage(np.zeros((side, side, 3), np.uint8), None, ())] * group)
    return list(processes._in_a_row.values())


def test_small_images_count_for_both_limits():
    assert count_rows(64, 65, 256) == [0, 96]
    assert count_rows(256, 64, 64) == [64, 96]
    assert count_rows(64, 257) == [0, 0]


def test_a_machine_that_allows_no_processes_uses_threads(folder, monkeypatch):
    def refuse(*_):
        raise OSError("no more processes")

    expected = [describe(batch) for batch in load(folder, "threads")]
    monkeypatch.setattr(decode_processes, "start_child", refuse)
    assert [describe(batch) for batch in load(folder)] == expected


def decode_files(paths, n_bytes=1 << 20):
    return decode_worker.decode_files(list(map(str, paths)), 10**6, np.zeros(n_bytes, np.uint8))


def test_images_that_take_too_much_memory_are_left_to_the_threads(folder):
    """The limit of the memory of all images holds for those of a process too: 300 x 300 pixels take 1.4 MB at 16 bytes per pixel."""
    starts, checks, notes = decode_files([folder / "010.png", folder / "011.png"])
    assert [start == decode_worker.LEFT for start in starts] == [True, False]
    assert (*checks[1].tolist()[-2:], notes) == (10, 9, [None, None])


def test_pixels_lie_one_after_the_other_in_the_memory(folder):
    """Rows that start at multiples of 32 bytes are written past the processor's cache."""
    paths = [folder / f"{number:03}.png" for number in range(8)]  # of which 005 has 16 bits, and 007 transparency
    memory = np.full(4096, 7, np.uint8)
    starts, checks, notes = decode_worker.decode_files(list(map(str, paths)), 10**6, memory)
    ends = [0]
    for path, start, check in zip(paths, starts, checks, strict=True):
        expected = decode(ImageRef(0, "", FileLoader(str(path)))).rgb
        np.testing.assert_array_equal(memory[start : start + expected.size].reshape(expected.shape), expected)
        assert (start % 32, start >= ends[-1]) == (16, True)
        assert (check["height"], check["width"]) == expected.shape[:2]
        ends.append(start + expected.size)
    assert (memory[ends[-1] :] == 7).all()
    assert [note is None for note in notes] == [number not in (0, 5, 7) for number in range(8)]


def test_images_that_do_not_fit_into_the_memory_are_left_to_the_threads(folder):
    starts, *_ = decode_files([folder / "001.png", folder / "002.png", folder / "005.png"], 16 + 9 * 9 * 3)
    assert starts.tolist() == [16, decode_worker.LEFT, decode_worker.LEFT]


@pytest.mark.subprocess
def test_threads_decode_if_all_blocks_of_memory_are_in_use(folder, monkeypatch, started):
    monkeypatch.setattr(decode_processes, "_NUM_BLOCKS", 2)
    expected = [describe(batch) for batch in load(folder, "threads")]
    batches = list(load(folder))  # keeps all images
    assert [describe(batch) for batch in batches] == expected
    assert started


def test_a_system_without_memory_to_share_uses_threads(folder, monkeypatch, started):
    def refuse(*_):
        raise OSError("not permitted")

    expected = [describe(batch) for batch in load(folder, "threads")]
    monkeypatch.setattr(os, "memfd_create", refuse)
    assert [describe(batch) for batch in load(folder)] == expected
    assert not started


def test_images_that_the_host_resizes_or_that_are_not_files_are_not_sent(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(decode_processes, "start_child", None)
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 5, 3), np.uint8))
    assert sum(len(batch.image_refs) for batch in load(tmp_path / "a.npy")) == 4
    crop = lambda rgb: (rgb[:4, :4], None)  # noqa: E731
    assert all(image.shape == (4, 4, 3) for batch in load(folder, crop=crop) for image in batch.pixels)


class RecordedPipe:
    """A process that decodes no image, as messages in order: what it receives, and when it is waited for."""

    def __init__(self, messages, is_ready):
        self.messages, self.is_ready, self.answers = messages, is_ready, []

    def send(self, kind, data):
        paths = json.loads(data)["paths"]
        self.messages.append(f"send {paths[0]}")
        starts, checks = np.full(len(paths), decode_worker.LEFT), np.zeros(len(paths), IMAGE_CHECK)
        self.answers.append(
            (decode_worker.DECODED, b"".join((starts.data, checks.data, json.dumps([None] * len(paths)).encode())))
        )

    def receive(self):
        if not self.answers:
            self.is_ready.wait(20)
            return decode_worker.READY, b""
        self.messages.append("receive")
        return self.answers.pop()


class EndedChild:
    def kill(self):
        pass

    communicate = kill


@pytest.fixture
def is_ready():
    return threading.Event()


@pytest.fixture
def messages(monkeypatch, is_ready):
    """The messages between this process and those that it starts."""
    found = []
    monkeypatch.setattr(decode_processes, "start_child", lambda *_: EndedChild())
    monkeypatch.setattr(decode_processes, "_connect", lambda _: RecordedPipe(found, is_ready))
    return found


def make_group(*names, load=FileLoader):
    return [ImageRef(0, name, load(name)) for name in names]


def test_a_process_receives_its_next_group_before_a_thread_handles_the_last_one(messages, is_ready):
    is_ready.set()
    processes = DecodeProcesses("processes", 1, 100)
    groups = [make_group("a", "b"), make_group("c", load=lambda name: lambda: name), make_group("d"), make_group("e")]
    for position, group in enumerate(groups):
        processes.announce(position, group)
    sent_by_then = []
    for position, group in enumerate(groups):
        assert processes.decode(position, group) == [None] * len(group)
        sent_by_then.append(messages.copy())
    processes.close()
    assert sent_by_then == [
        ["send a", "receive"],  # the next one are no files
        ["send a", "receive"],
        ["send a", "receive", "send d", "receive", "send e"],
        ["send a", "receive", "send d", "receive", "send e", "receive"],
    ]


def test_threads_decode_until_the_processes_have_started(messages, is_ready, monkeypatch):
    monkeypatch.setattr(decode_processes, "_IMAGES_BEFORE_PROCESSES", {64 * 64 * 3: 0})
    processes = DecodeProcesses("auto", 2, 100)
    assert processes.decode(0, make_group("a")) == [None]
    assert not messages
    is_ready.set()
    processes._starter.join()
    processes.decode(1, make_group("b"))
    assert messages == ["send b", "receive"]
    processes.close()


def test_webp_files_of_256_pixels_are_decoded(tmp_path):
    """Pillow's decoder takes half as much memory again for them."""
    pixels = np.random.default_rng(0).integers(0, 256, (257, 256, 3), np.uint8)
    Image.fromarray(pixels[:256]).save(tmp_path / "a.webp", lossless=True)
    Image.fromarray(pixels).save(tmp_path / "b.webp")
    starts, checks, _ = decode_files([tmp_path / "a.webp", tmp_path / "b.webp"])
    assert [start == decode_worker.LEFT for start in starts] == [False, True]
    assert (*checks[0].tolist()[-2:],) == (256, 256)


@pytest.mark.subprocess
def test_warnings_about_an_image_are_those_of_threads(tmp_path):
    image = Image.new("RGB", (20, 20))
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\0"  # declares 255 entries and has none
    image.save(tmp_path / "a.jpg", exif=exif)
    for kind in ("threads", "processes"):
        with pytest.warns(UserWarning, match="Corrupt EXIF data"):
            assert len(list(load(tmp_path, kind))) == 1


CLOSED = """
import sys
from frechet.images import decode_processes
from frechet.images.loader import load_batches
from frechet.images.sources.registry import open_source
found, iter_images = [], decode_processes._iter_images
decode_processes._iter_images = lambda *arguments: found.append(1) or iter_images(*arguments)
source = open_source(sys.argv[1])
list(load_batches(source.iter_images(range(len(source))), None, size=8, batch_size=32, workers=1,
    workers_kind="processes", skip_bad_images=True, is_left_to_device=lambda *_: True))
sys.exit(len(found))
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("redirection", ["<&-", ">&-"])
def test_processes_decode_if_the_standard_streams_are_closed(folder, redirection):
    """The memory then gets the number of one of them, which the process needs itself."""
    command = f"'{sys.executable}' -c '{CLOSED}' '{folder}' {redirection}"
    found = subprocess.run(command, shell=True, stderr=subprocess.PIPE, check=False)
    assert found.returncode == 10, found.stderr


def test_memory_of_closed_processes_is_not_kept(folder, started):
    """A notebook keeps the last error, and with it whatever its frames refer to."""
    processes = DecodeProcesses("processes", 1, 10**6)
    processes.decode(0, make_group(str(folder / "000.png")))
    assert processes._blocks is not None
    processes.close()
    assert processes._blocks is None


def test_systems_without_shared_memory_reject_processes(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(RequestError, match=r"--workers-kind.*expected auto or threads on darwin"):
        Settings(workers_kind="processes")
    Settings(workers_kind="auto")


def test_an_unknown_kind_is_rejected():
    with pytest.raises(RequestError, match="workers_kind"):
        Settings(workers_kind="fibers")


INTERRUPTED = """
import sys, time
from frechet.images import decode_processes
from frechet.images.loader import load_batches
from frechet.images.sources.registry import open_source
source = open_source(sys.argv[1])
start = decode_processes.start_child
def start_and_print(*arguments):
    process = start(*arguments)
    print(process.pid, flush=True)
    return process
decode_processes.start_child = start_and_print
batches = load_batches(source.iter_images(range(len(source))), None, size=8, batch_size=32, workers=1,
    workers_kind="processes", skip_bad_images=True, is_left_to_device=lambda *_: True)
next(batches)
print("ready", flush=True)
time.sleep(60)
"""


def is_running(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.subprocess
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_program(folder, number):
    command = [sys.executable, "-c", INTERRUPTED, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        child = int(program.stdout.readline())
        assert program.stdout.readline() == "ready\n"
        assert is_running(child)
        program.send_signal(number)
    deadline = time.monotonic() + 20
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)

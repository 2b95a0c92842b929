"""A run with a work directory resumes after an interruption, with the same bits; a different run is rejected."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from forks import ForkedProgram
from helpers import assert_same_statistics, list_chunk_files, make_image_folder, restore_sigint, run
from PIL import Image
from toy import PIXELS, TOY, first_six_values

import frechet
from frechet.errors import ImageDecodeError, OutputError, RequestError, RunError
from frechet.execution import work_dir
from frechet.execution.chunks import write_chunk
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.loader import CHUNK_SIZE
from frechet.images.sources.registry import open_source

OFFLINE = {"extractor": "efficientnet-lite0"}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Images of three chunks, the last one short."""
    path = tmp_path_factory.mktemp("many") / "many.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (2 * CHUNK_SIZE + 40, 8, 8, 3), np.uint8))
    return path


@pytest.fixture(scope="module")
def undisturbed(many):
    return collect_statistics(open_source(many), Settings(), TOY)


def test_a_finished_run_is_read_back_without_the_network(many, undisturbed, tmp_path, extracted_counts):
    assert_same_statistics(collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY), undisturbed)
    assert_same_statistics(collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY), undisturbed)
    assert extracted_counts == [2 * CHUNK_SIZE + 40, 0]


def test_only_missing_and_damaged_chunks_are_recomputed(many, undisturbed, tmp_path, extracted_counts):
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    one, other = (tmp_path / "images" / f"chunk-0000000{number}.npz" for number in (0, 2))
    one.unlink()
    other.write_bytes(other.read_bytes()[:-100])
    assert_same_statistics(collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY), undisturbed)
    assert extracted_counts[1:] == [CHUNK_SIZE + 40]
    content = bytearray(one.read_bytes())
    content[len(content) // 2] ^= 1
    one.write_bytes(content)
    assert_same_statistics(collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY), undisturbed)
    assert extracted_counts[2:] == [CHUNK_SIZE]


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize(("kind", "files"), [("small", 21), ("large", 11)])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, kind, files):
    """A finished chunk is never written again, so only unfinished ones are computed twice."""
    images = np.random.default_rng(1).integers(0, 256, (20 * CHUNK_SIZE + 3, PIXELS, PIXELS, 3), np.uint8)
    np.save(tmp_path / "toy.npy", images)

    def start(work_dir, out):
        arguments = (tmp_path / "toy.npy", work_dir, out, kind)
        program = ForkedProgram(tmp_path / f"output-{uuid.uuid4()}.txt", Path(toy.__file__), *arguments)
        while "started" not in program.output.read_text():
            assert program.process.is_alive()
            time.sleep(0.005)
        return program

    rng, kept, n_kills = random.Random(7), {}, 0
    while True:
        program = start(tmp_path / "work", tmp_path / "killed.npz")
        if n_kills < 20:
            time.sleep(rng.uniform(0, 0.12))
            program.kill()
            n_kills += 1
        code = program.wait()
        now = list_chunk_files(tmp_path / "work")
        assert kept.items() <= now.items()
        kept = now
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert n_kills == 20
    assert len(kept) == files
    start(tmp_path / "other", tmp_path / "undisturbed.npz").finish()
    with np.load(tmp_path / "killed.npz") as found, np.load(tmp_path / "undisturbed.npz") as expected:
        np.testing.assert_array_equal(found["rows"], first_six_values(images)[found["indices"]])
        np.testing.assert_allclose(found["mean"], first_six_values(images).mean(0, dtype=float), rtol=1e-12)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"num_images": CHUNK_SIZE}, "n_images was 552 and is 256"),
        ({"on_bad_image": "skip"}, "on_bad_image was stop and is skip"),
        ({"extractor": "other"}, "extractor was toy and is other"),
    ],
)
def test_the_work_dir_of_another_run_is_rejected_and_the_difference_named(many, tmp_path, change, expected):
    extractor = TOY
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), extractor)
    if "extractor" in change:
        extractor, change = replace(TOY, spec=replace(TOY.spec, **change)), {}
    with pytest.raises(RequestError, match=f"chunks of another run: .*{expected}.*--work-dir .*delete"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path, **change), extractor)


def test_batch_size_and_threads_may_differ_when_resuming(many, tmp_path):
    one = collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert_same_statistics(
        collect_statistics(open_source(many), Settings(work_dir=tmp_path, batch_size=3, workers=1), TOY), one
    )


@pytest.mark.slow
def test_the_work_dir_of_other_layers_is_rejected(tmp_path):
    sides = make_image_folder(tmp_path / "a", 5), make_image_folder(tmp_path / "b", 5, seed=1)
    settings = {"work_dir": tmp_path / "work", "interval": "none", **OFFLINE}
    once, again = (frechet.score(*sides, metrics=["fd", "is"], splits=[2], **settings) for _ in range(2))
    assert {key: float(score) for key, score in once.items()} == {key: float(score) for key, score in again.items()}
    with pytest.raises(
        RequestError, match=r"layers was \{'features': 1280, 'logits': 1000\} and is \{'features': 1280\}"
    ):
        frechet.score(*sides, metrics=["fd"], **settings)


@pytest.mark.slow
def test_each_repetition_has_its_own_folder(tmp_path):
    sides = make_image_folder(tmp_path / "a", 6), make_image_folder(tmp_path / "b", 6, seed=1)
    options = {"num_images": 4, "repeat": 2, "work_dir": tmp_path / "work", **OFFLINE}
    once, again = (frechet.score(*sides, **options)["fd"] for _ in range(2))
    assert once.repeats == again.repeats
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"generated", "reference", "seed-1"}


def test_a_changed_image_is_detected(tmp_path):
    folder = make_image_folder(tmp_path / "a")
    collect_statistics(open_source(folder), Settings(work_dir=tmp_path / "work"), TOY)
    os.utime(folder / "002.png", (1, 1))
    with pytest.raises(RequestError, match=r"images differ.*one of .*000\.png \.\.\. .*005\.png"):
        collect_statistics(open_source(folder), Settings(work_dir=tmp_path / "work"), TOY)


def test_the_work_dir_of_a_subset_with_another_seed_is_rejected(many, tmp_path):
    settings = {"work_dir": tmp_path, "num_images": 300}
    collect_statistics(open_source(many), Settings(**settings), TOY)
    with pytest.raises(RequestError, match="subset_seed was 0 and is 1"):
        collect_statistics(open_source(many), Settings(seed=1, **settings), TOY)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "plan.json").write_text("{"), "plan.json cannot be read"),
        (lambda folder: (folder / "plan.json").write_text("[2]"), "plan.json cannot be read"),
        (lambda folder: (folder / "plan.json").write_text('{"format": 3}'), "format 3; .* requires format 2"),
        (
            lambda folder: (folder / "plan.json").unlink(),
            "not a frechet work directory: it contains chunk-00000000.npz",
        ),
    ],
)
def test_a_folder_that_is_not_a_valid_work_dir_is_left_alone(many, tmp_path, damage, expected):
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    damage(tmp_path / "images")
    before = list_chunk_files(tmp_path)
    with pytest.raises(RequestError, match=f"{expected}.*--work-dir .*delete"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert list_chunk_files(tmp_path) == before


def test_a_work_dir_of_format_1_is_rejected_and_left_alone(many, tmp_path):
    """As version 0.2.0 wrote it."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "plan.json").write_text('{"format": 1, "images in a part": 256, "parts": ["0123456789abcdef"]}')
    (folder / "part-00000000.npz").write_bytes(b"")
    with pytest.raises(
        RequestError, match=r"images has work directory format 1; .* format 2\. Pass another --work-dir"
    ):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert {path.name for path in folder.iterdir()} == {".lock", "plan.json", "part-00000000.npz"}


def test_files_of_other_programs_are_left_alone(many, tmp_path):
    (tmp_path / "images").mkdir()
    precious = tmp_path / "images" / ".thesis.doc.partial"
    precious.write_text("precious")
    with pytest.raises(RequestError, match=r"contains \.thesis\.doc\.partial"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert precious.read_text() == "precious"


def test_two_runs_do_not_share_a_work_dir(many, tmp_path):
    from filelock import FileLock

    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    with FileLock(tmp_path / "images" / ".lock"), pytest.raises(RequestError, match="another run is using"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)


def test_a_full_disk_is_reported_and_keeps_finished_chunks(many, tmp_path, monkeypatch):
    def write_until_full(chunk, stream, identity):
        if len(list_chunk_files(tmp_path)) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_chunk(chunk, stream, identity)

    monkeypatch.setattr(work_dir, "write_chunk", write_until_full)
    with pytest.raises(RunError, match=r"disk is full.*finished chunks are kept in .*free some space"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert list(list_chunk_files(tmp_path)) == ["chunk-00000000.npz"]
    assert not [path for path in (tmp_path / "images").iterdir() if path.name.endswith(".partial")]


@pytest.mark.slow
def test_an_undecodable_image_keeps_finished_chunks_and_notes_are_read_back(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for place in range(2 * CHUNK_SIZE):
        Image.new("RGB", (4, 4)).save(folder / f"{place:04d}.ppm")
    Image.new("RGBA", (4, 4)).save(folder / "0000.png")
    (folder / "9999.png").write_text("broken")
    with pytest.raises(ImageDecodeError, match=r"9999\.png.*finished chunks are kept"):
        collect_statistics(open_source(folder), Settings(work_dir=tmp_path / "work"), TOY)
    assert len(list_chunk_files(tmp_path / "work")) == 1
    skipping = Settings(work_dir=tmp_path / "skip", on_bad_image="skip")
    once, again = (collect_statistics(open_source(folder), skipping, TOY) for _ in range(2))
    assert_same_statistics(once, again)
    assert (once.notes, once.skipped_images, once.formats) == (again.notes, again.skipped_images, again.formats)
    assert len(once.skipped_images) == 1
    assert any("alpha" in note for note in once.notes)


def test_images_in_memory_cannot_have_a_work_dir(tmp_path):
    with pytest.raises(RequestError, match="images in memory have no name"):
        frechet.collect([np.zeros((4, 4, 3), np.uint8)] * 2, work_dir=tmp_path, **OFFLINE)


def test_a_work_dir_that_cannot_be_created_is_reported(many, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"work directory .*file.* cannot be written .*--work-dir"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path / "file"), TOY)


@pytest.mark.slow
@pytest.mark.subprocess
def test_ctrl_c_reports_how_to_resume(tmp_path):
    n = CHUNK_SIZE + 120  # the second chunk takes long enough to be interrupted
    np.save(tmp_path / "n.npy", np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), np.uint8))
    arguments = ["stats", tmp_path / "n.npy", tmp_path / "s.npz", "--work-dir", tmp_path / "work"]
    arguments += ["--extractor", "efficientnet-lite0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "frechet", *arguments], stderr=subprocess.PIPE, text=True, preexec_fn=restore_sigint
    )
    while not list_chunk_files(tmp_path / "work"):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted; finished chunks are kept in" in err
    assert "Traceback" not in err
    code, out, err = run(*arguments)
    assert code == 0
    assert f"{n} images" in out


def test_no_chunk_is_reported_as_kept_if_none_was_finished(many, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error
        yield

    monkeypatch.setattr("frechet.execution.workers.extract", fail)
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt, match=r"^; no chunk was finished"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    error = ImageDecodeError("broken")
    with pytest.raises(ImageDecodeError, match=r"^broken$"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)


@pytest.mark.slow
def test_each_input_of_a_score_has_its_own_folder(tmp_path, extracted_counts):
    sides = make_image_folder(tmp_path / "a", 5), make_image_folder(tmp_path / "b", 7, seed=1)
    scores = [frechet.score(*sides, work_dir=tmp_path / "work", **OFFLINE)["fd"] for _ in range(2)]
    assert float(scores[0]) == float(scores[1]) == float(frechet.score(*sides, **OFFLINE)["fd"])
    assert extracted_counts == [5, 7, 0, 0, 5, 7]
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"generated", "reference"}

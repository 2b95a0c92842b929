"""A run that was stopped continues: what is finished is kept, what differs is refused, the numbers are the same."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import toy
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
    """Images of three parts, the last one short."""
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


def test_missing_and_damaged_parts_alone_are_computed(many, undisturbed, tmp_path, extracted_counts):
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    one, other = (tmp_path / "images" / f"part-0000000{number}.npz" for number in (0, 2))
    one.unlink()
    other.write_bytes(other.read_bytes()[:-100])
    assert_same_statistics(collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY), undisturbed)
    assert extracted_counts[1:] == [CHUNK_SIZE + 40]
    content = bytearray(one.read_bytes())
    content[len(content) // 2] ^= 1
    one.write_bytes(content)
    assert_same_statistics(collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY), undisturbed)
    assert extracted_counts[2:] == [CHUNK_SIZE]


@pytest.mark.parametrize(("kind", "files"), [("small", 21), ("large", 11)])
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path, kind, files):
    """A part that is there is never written again, so only those in flight are computed twice."""
    images = np.random.default_rng(1).integers(0, 256, (20 * CHUNK_SIZE + 3, PIXELS, PIXELS, 3), np.uint8)
    np.save(tmp_path / "toy.npy", images)

    def life(work_dir, out):
        command = [sys.executable, toy.__file__, tmp_path / "toy.npy", work_dir, out, kind]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"begun\n"
        return process

    moments, kept, deaths = random.Random(7), {}, 0
    while True:
        process = life(tmp_path / "work", tmp_path / "killed.npz")
        if deaths < 20:
            time.sleep(moments.uniform(0, 0.12))
            process.kill()
            deaths += 1
        process.communicate()
        now = list_chunk_files(tmp_path / "work")
        assert kept.items() <= now.items()
        kept = now
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert deaths == 20
    assert len(kept) == files
    undisturbed = life(tmp_path / "other", tmp_path / "undisturbed.npz")
    undisturbed.communicate()
    assert undisturbed.returncode == 0
    with np.load(tmp_path / "killed.npz") as found, np.load(tmp_path / "undisturbed.npz") as expected:
        np.testing.assert_array_equal(found["rows"], first_six_values(images)[found["places"]])
        np.testing.assert_allclose(found["mean"], first_six_values(images).mean(0, dtype=float), rtol=1e-12)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_images": CHUNK_SIZE}, "images to score was 552, and is 256"),
        ({"on_bad_image": "skip"}, "on_bad_image was stop, and is skip"),
        ({"extractor": "other"}, "extractor was toy, and is other"),
    ],
)
def test_another_run_is_refused_and_the_difference_named(many, tmp_path, change, told):
    extractor = TOY
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), extractor)
    if "extractor" in change:
        extractor, change = replace(TOY, spec=replace(TOY.spec, **change)), {}
    with pytest.raises(RequestError, match=f"parts of another run: .*{told}.*delete"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path, **change), extractor)


def test_batches_and_threads_make_no_other_run(many, tmp_path):
    one = collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert_same_statistics(
        collect_statistics(open_source(many), Settings(work_dir=tmp_path, batch_size=3, workers=1), TOY), one
    )


def test_other_layers_are_another_run_and_each_is_read_back(tmp_path, weights):
    sides = make_image_folder(tmp_path / "a", 5), make_image_folder(tmp_path / "b", 5, seed=1)
    settings = {"weights": weights, "work_dir": tmp_path / "work", "interval": "none"}
    once, again = (frechet.score(*sides, metrics=["fid", "sfid"], **settings) for _ in range(2))
    assert {key: float(score) for key, score in once.items()} == {key: float(score) for key, score in again.items()}
    with pytest.raises(RequestError, match="features was features 2048, spatial 2023, and is features 2048"):
        frechet.score(*sides, metrics=["fid"], **settings)


def test_repeated_subsets_have_folders_of_their_own(tmp_path):
    sides = make_image_folder(tmp_path / "a", 6), make_image_folder(tmp_path / "b", 6, seed=1)
    wish = {"num_images": 4, "repeat": 2, "work_dir": tmp_path / "work", **OFFLINE}
    once, again = (frechet.score(*sides, **wish)["fd"] for _ in range(2))
    assert once.repeats == again.repeats
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"generated", "reference", "seed-1"}


def test_a_changed_image_is_found(tmp_path):
    folder = make_image_folder(tmp_path / "a")
    collect_statistics(open_source(folder), Settings(work_dir=tmp_path / "work"), TOY)
    os.utime(folder / "002.png", (1, 1))
    with pytest.raises(RequestError, match=r"images differ.*among .*000\.png \.\.\. .*005\.png"):
        collect_statistics(open_source(folder), Settings(work_dir=tmp_path / "work"), TOY)


def test_a_subset_of_another_seed_is_another_run(many, tmp_path):
    settings = {"work_dir": tmp_path, "num_images": 300}
    collect_statistics(open_source(many), Settings(**settings), TOY)
    with pytest.raises(RequestError, match="seed of the subset was 0, and is 1"):
        collect_statistics(open_source(many), Settings(seed=1, **settings), TOY)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "plan.json").write_text("{"), "plan.json cannot be read"),
        (lambda folder: (folder / "plan.json").write_text('{"format": 0}'), "format was 0, and is 1"),
        (lambda folder: (folder / "plan.json").unlink(), "no work-dir of frechet's: it holds part-00000000.npz"),
    ],
)
def test_a_folder_that_is_not_this_runs_is_left_alone(many, tmp_path, spoil, told):
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    spoil(tmp_path / "images")
    before = list_chunk_files(tmp_path)
    with pytest.raises(RequestError, match=told):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert list_chunk_files(tmp_path) == before


def test_a_strangers_file_is_left_where_it_is(many, tmp_path):
    (tmp_path / "images").mkdir()
    precious = tmp_path / "images" / ".thesis.doc.partial"
    precious.write_text("precious")
    with pytest.raises(RequestError, match=r"holds \.thesis\.doc\.partial"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert precious.read_text() == "precious"


def test_two_runs_do_not_share_a_work_dir(many, tmp_path):
    from filelock import FileLock

    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    with FileLock(tmp_path / "images" / ".lock"), pytest.raises(RequestError, match="another run is using"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)


def test_a_full_disk_is_told_and_keeps_what_is_finished(many, tmp_path, monkeypatch):
    def full(part, stream):
        if len(list_chunk_files(tmp_path)) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_chunk(part, stream)

    monkeypatch.setattr(work_dir, "write_chunk", full)
    with pytest.raises(RunError, match=r"disk is full.*finished parts are kept in .*make room"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert list(list_chunk_files(tmp_path)) == ["part-00000000.npz"]
    assert not [path for path in (tmp_path / "images").iterdir() if path.name.endswith(".partial")]


def test_a_bad_image_keeps_what_is_finished_and_remarks_survive(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for place in range(2 * CHUNK_SIZE):
        Image.new("RGB", (4, 4)).save(folder / f"{place:04d}.ppm")
    Image.new("RGBA", (4, 4)).save(folder / "0000.png")
    (folder / "9999.png").write_text("broken")
    with pytest.raises(ImageDecodeError, match=r"9999\.png.*finished parts are kept"):
        collect_statistics(open_source(folder), Settings(work_dir=tmp_path / "work"), TOY)
    assert len(list_chunk_files(tmp_path / "work")) == 1
    skipping = Settings(work_dir=tmp_path / "skip", on_bad_image="skip")
    once, again = (collect_statistics(open_source(folder), skipping, TOY) for _ in range(2))
    assert_same_statistics(once, again)
    assert (once.notes, once.skipped_images, once.formats) == (again.notes, again.skipped_images, again.formats)
    assert len(once.skipped_images) == 1
    assert any("alpha" in note for note in once.notes)


def test_what_cannot_be_told_apart_later_has_no_work_dir(tmp_path):
    with pytest.raises(RequestError, match="images in memory have no name"):
        frechet.collect([np.zeros((4, 4, 3), np.uint8)] * 2, work_dir=tmp_path, **OFFLINE)


def test_a_work_dir_that_cannot_be_made_is_told(many, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"work-dir .* cannot be written"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path / "file"), TOY)


def test_ctrl_c_says_where_to_go_on(many, tmp_path):
    command = [sys.executable, "-m", "frechet", "stats", many, tmp_path / "s.npz", "--work-dir", tmp_path / "work"]
    process = subprocess.Popen(
        [*command, "--extractor", "efficientnet-lite0"], stderr=subprocess.PIPE, text=True, preexec_fn=restore_sigint
    )
    while not list_chunk_files(tmp_path / "work"):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted; finished parts are kept in" in err
    assert "Traceback" not in err
    code, out, err = run(
        "stats", many, tmp_path / "s.npz", "--work-dir", tmp_path / "work", "--extractor", "efficientnet-lite0"
    )
    assert code == 0
    assert "552 images" in out


def test_where_no_part_was_finished_none_is_said_to_be_kept(many, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise stop
        yield

    monkeypatch.setattr("frechet.execution.workers.extract", stopped)
    stop = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt, match=r"^; no part was finished"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    stop = ImageDecodeError("broken")
    with pytest.raises(ImageDecodeError, match=r"^broken$"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)


def test_both_sides_of_a_score_have_folders_of_their_own(tmp_path, extracted_counts):
    sides = make_image_folder(tmp_path / "a", 5), make_image_folder(tmp_path / "b", 7, seed=1)
    scores = [frechet.score(*sides, work_dir=tmp_path / "work", **OFFLINE)["fd"] for _ in range(2)]
    assert float(scores[0]) == float(scores[1]) == float(frechet.score(*sides, **OFFLINE)["fd"])
    assert extracted_counts == [5, 7, 0, 0, 5, 7]
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"generated", "reference"}

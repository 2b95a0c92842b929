"""Beyond a number of images, large parts that hold the statistic: the same numbers from a fraction of the bytes.

Here more than a thousand images are many, a large part is one of 512, and a hundred rows are kept.
"""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_same_statistics, list_chunk_files
from PIL import Image
from toy import PIXELS, TOY, first_six_values

import frechet
from frechet.errors import RequestError
from frechet.execution import chunks
from frechet.execution.chunks import Partition, SummaryChunk, read_chunk, write_chunk
from frechet.execution.collect import collect_layer_statistics, collect_statistics
from frechet.execution.feature_cache import list_cache_entries
from frechet.execution.reduce import MergedChunks
from frechet.execution.settings import Settings
from frechet.features import extract
from frechet.features.extract import FeatureChunk
from frechet.features.extractor import Layer
from frechet.images.checks import IMAGE_CHECK
from frechet.images.loader import CHUNK_SIZE
from frechet.images.sources.registry import open_source
from frechet.statistics import row_sample
from frechet.statistics.accumulator import Accumulator
from frechet.statistics.row_sample import priorities

ROWS = 100
COUNT = 10 * CHUNK_SIZE + 40
SEVERAL = replace(TOY, dims=4, extra_layers={"a/layer": Layer(2, replace(TOY.spec, layer="other"))})


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(row_sample, "MAX_SAMPLE_ROWS", ROWS)


@pytest.fixture
def large(monkeypatch):
    """A thousand are many."""
    monkeypatch.setattr(chunks, "LARGE_CHUNK_THRESHOLD", 1000)
    monkeypatch.setattr(chunks, "LARGE_CHUNK_SIZE", 2 * CHUNK_SIZE)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (COUNT, PIXELS, PIXELS, 3), np.uint8)


@pytest.fixture(scope="module")
def many(images, tmp_path_factory):
    """Five large parts and a short one."""
    path = tmp_path_factory.mktemp("many") / "many.npy"
    np.save(path, images)
    return path


class Uncounted:
    """A source of a length."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count


def test_more_than_a_million_images_make_large_parts_of_16384():
    assert len(Partition.from_source(Uncounted(10**6), Settings())) == 3907
    assert len(Partition.from_source(Uncounted(10**6 + 1), Settings())) == 62
    assert Partition.from_source(Uncounted(10**6 + 1), Settings()).chunk_range(61) == range(61 * 16_384, 10**6 + 1)
    assert len(Partition.from_source(Uncounted(10**6 + 1), Settings(num_images=10**6))) == 3907
    assert len(Partition.from_source(Uncounted(10**6 + 1), Settings(), keep_all=True)) == 3907


def test_they_give_the_statistics_and_the_sample_of_the_images(many, images, large, tmp_path):
    found = collect_statistics(open_source(many), Settings(seed=3, work_dir=tmp_path), TOY)
    assert len(list_chunk_files(tmp_path)) == 6
    features = first_six_values(images)
    np.testing.assert_allclose(found.mean, features.mean(0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(features.astype(float), rowvar=False), rtol=1e-12)
    chosen = np.sort(np.argsort(priorities(np.arange(COUNT), 3))[:ROWS])
    np.testing.assert_array_equal(found.indices, chosen)
    np.testing.assert_array_equal(found.rows, features[chosen])


def test_they_give_the_statistics_of_small_parts(many, large, monkeypatch):
    found = collect_statistics(open_source(many), Settings(), TOY)
    monkeypatch.setattr(chunks, "LARGE_CHUNK_THRESHOLD", COUNT)
    expected = collect_statistics(open_source(many), Settings(), TOY)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-12)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.rows, expected.rows)
    told = ("n", "recipe", "names", "n_source", "seed", "bad_images", "remarks", "formats")
    assert [getattr(found, name) for name in told] == [getattr(expected, name) for name in told]


def test_every_layer_has_its_own(many, images, large, tmp_path):
    once, again = (
        collect_layer_statistics(open_source(many), Settings(work_dir=tmp_path), SEVERAL, keep_all_by_layer={})
        for _ in range(2)
    )
    assert len(list_chunk_files(tmp_path)) == 6
    for name, columns in (("features", slice(4)), ("a/layer", slice(4, 6))):
        features = first_six_values(images)[:, columns]
        np.testing.assert_allclose(once[name].mean, features.mean(0, dtype=float), rtol=1e-12)
        np.testing.assert_allclose(once[name].covariance, np.cov(features.astype(float), rowvar=False), rtol=1e-12)
        np.testing.assert_array_equal(once[name].rows, features[once[name].indices])
        assert_same_statistics(once[name], again[name])
    assert once["a/layer"].spec.layer == "other"


def test_where_all_features_are_kept_parts_stay_small(many, images, large, tmp_path):
    found = collect_layer_statistics(
        open_source(many), Settings(work_dir=tmp_path), SEVERAL, keep_all_by_layer={"a/layer": True}
    )
    assert len(list_chunk_files(tmp_path)) == 11
    np.testing.assert_array_equal(found["a/layer"].features, first_six_values(images)[:, 4:])


def test_a_finished_run_is_read_back_and_what_is_missing_or_damaged_computed(many, large, tmp_path, extracted_counts):
    undisturbed = collect_statistics(open_source(many), Settings(), TOY)
    settings = Settings(work_dir=tmp_path)
    for _ in range(2):
        assert_same_statistics(collect_statistics(open_source(many), settings, TOY), undisturbed)
    one, other = (tmp_path / "images" / f"part-0000000{number}.npz" for number in (1, 5))
    one.unlink()
    content = bytearray(other.read_bytes())
    content[len(content) // 2] ^= 1
    other.write_bytes(content)
    assert_same_statistics(collect_statistics(open_source(many), settings, TOY), undisturbed)
    assert extracted_counts == [COUNT, COUNT, 0, 2 * CHUNK_SIZE + 40]


def test_stopped_within_a_large_part_it_continues_with_the_same_bits(many, large, tmp_path, monkeypatch):
    undisturbed = collect_statistics(open_source(many), Settings(), TOY)

    def stopped(*args, **options):
        for number, part in enumerate(extract.extract(*args, **options)):
            if number == 7:
                raise KeyboardInterrupt
            yield part

    with monkeypatch.context() as patched:
        patched.setattr("frechet.execution.workers.extract", stopped)
        with pytest.raises(KeyboardInterrupt, match="finished parts are kept"):
            collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    kept = list_chunk_files(tmp_path)
    assert len(kept) == 3
    assert_same_statistics(collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY), undisturbed)
    assert kept.items() <= list_chunk_files(tmp_path).items()


def test_rows_of_another_seed_are_another_run(many, large, tmp_path):
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    told = "what a part holds was statistics and rows of seed 0, and is statistics and rows of seed 1"
    with pytest.raises(RequestError, match=told):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path, seed=1), TOY)


def test_features_and_statistics_are_not_taken_for_each_other(many, large, tmp_path):
    collect_statistics(open_source(many), Settings(work_dir=tmp_path / "large"), TOY)
    with pytest.raises(RequestError, match=r"statistics and rows of seed 0, and is features; images in a part was 512"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path / "large"), TOY, keep_all=True)
    collect_statistics(open_source(many), Settings(work_dir=tmp_path / "small"), TOY, keep_all=True)
    with pytest.raises(RequestError, match="what a part holds was features, and is statistics and rows of seed 0"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path / "small"), TOY)


def test_a_plan_of_small_parts_says_what_it_always_said(many, tmp_path):
    """The keys of version 0.2.0, whose work-dirs and caches go on."""
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert list(json.loads((tmp_path / "images" / "plan.json").read_text())) == [
        *("format", "images in a part", "extractor", "layer", "weights", "convention", "precision", "features"),
        *("backend", "on_bad_image", "images in the source", "images to score", "seed of the subset", "parts"),
    ]


def test_the_cache_keeps_them(many, large, monkeypatch, tmp_path, extracted_counts):
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    once, again = (collect_statistics(open_source(many), Settings(cache=True), TOY) for _ in range(2))
    assert_same_statistics(once, again)
    (entry,) = list_cache_entries()
    assert len(list(entry.folder.glob("part-*"))) == 6
    assert extracted_counts == [COUNT, 0]


def test_bad_images_are_left_out(large, tmp_path, monkeypatch):
    """All of a small part's, and one of another's."""
    bad = {*range(CHUNK_SIZE, 2 * CHUNK_SIZE), 1000}
    random = np.random.default_rng(5)
    for place in range(1100):
        path = tmp_path / "a" / f"{place:04d}.ppm"
        path.parent.mkdir(exist_ok=True)
        if place in bad:
            path.write_text("broken")
        else:
            Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).save(path)
    Image.new("RGBA", (4, 4)).save(tmp_path / "a" / "9999.png")
    skipping = Settings(on_bad_image="skip", work_dir=tmp_path / "work")
    once, again = (collect_statistics(open_source(tmp_path / "a"), skipping, TOY) for _ in range(2))
    assert len(list_chunk_files(tmp_path / "work")) == 3
    assert_same_statistics(once, again)
    monkeypatch.setattr(chunks, "LARGE_CHUNK_THRESHOLD", 10**6)
    expected = collect_statistics(open_source(tmp_path / "a"), Settings(on_bad_image="skip"), TOY)
    assert once.n == 1101 - len(bad)
    assert len(once.skipped_images) == len(bad)
    assert [note for note in once.notes if "alpha" in note]
    for one in (once, again):
        assert (one.notes, one.skipped_images, one.formats) == (
            expected.notes,
            expected.skipped_images,
            expected.formats,
        )
        np.testing.assert_allclose(one.covariance, expected.covariance, rtol=1e-12)
        np.testing.assert_array_equal(one.indices, expected.indices)
        np.testing.assert_array_equal(one.rows, expected.rows)


def test_progress_moves_within_a_large_part(many, large):
    told = []
    collect_statistics(open_source(many), Settings(batch_size=64), TOY, lambda *what: told.append(what))
    done = [images for _, images, _ in told]
    assert done[0] == 0
    assert done[-1] == COUNT
    assert max(np.diff(done)) <= 64


def test_a_large_parts_bytes_do_not_grow_with_its_images():
    """But for 33 bytes an image of place and signs, and the few rows that a sample of a billion may need."""
    dims, random = 300, np.random.default_rng(0)

    def size_of(count):
        merged = MergedChunks({"features": Accumulator(slice(0, dims), 10**9, 0, keep_all=False)})
        for start in range(0, count, CHUNK_SIZE):
            rows = random.random((CHUNK_SIZE, dims), np.float32)
            merged.add(
                FeatureChunk(np.arange(start, start + CHUNK_SIZE), rows, np.zeros(CHUNK_SIZE, IMAGE_CHECK), [], [])
            )
        stream = io.BytesIO()
        write_chunk(merged.condensed(), stream)
        stream.seek(0)
        part = read_chunk(stream)
        assert isinstance(part, SummaryChunk)
        assert part.layers["features"].moments.n == count
        return len(stream.getvalue())

    small, big = size_of(2 * CHUNK_SIZE), size_of(32 * CHUNK_SIZE)
    assert big - small < 30 * CHUNK_SIZE * 34
    assert big < 8 * dims**2 + 32 * CHUNK_SIZE * 34 + 5000


def test_a_score_of_large_parts(many, large, tmp_path):
    """From the top: two sides, with an interval."""
    torch = pytest.importorskip("torch")

    def corner(batch):
        return torch.flatten(batch, 1)[:, :6]

    corner.pixels = 4
    other = tmp_path / "other.npy"
    np.save(other, np.random.default_rng(1).integers(0, 200, (1500, 4, 4, 3), np.uint8))
    options = {"extractor": corner, "convention": "pytorch-fid"}
    found = frechet.score(str(many), str(other), work_dir=tmp_path / "work", **options)["fd"]
    assert len(list((tmp_path / "work" / "generated").glob("part-*"))) == 6
    assert len(list((tmp_path / "work" / "reference").glob("part-*"))) == 3
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chunks, "LARGE_CHUNK_THRESHOLD", 10**6)
        expected = frechet.score(str(many), str(other), **options)["fd"]
    assert float(found) == pytest.approx(float(expected), rel=1e-9)
    assert len(found.interval_95) == 2
    assert found.interval_95 == pytest.approx(expected.interval_95, rel=1e-9)

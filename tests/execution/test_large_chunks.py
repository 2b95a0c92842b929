"""Runs of many images use large chunks, which hold moments: the same results from a fraction of the bytes.

In these tests chunks are large above 1,000 images and have 512 images, and row samples have 100 rows.
"""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_same_statistics, list_chunk_files
from PIL import Image
from toy import PIXELS, TOY, first_six_values

import frechet
from frechet.errors import RequestError
from frechet.execution import chunks
from frechet.execution.chunks import Chunk, Partition, read_chunk, write_chunk
from frechet.execution.collect import collect_layer_statistics, collect_statistics
from frechet.execution.feature_cache import list_cache_entries
from frechet.execution.reduce import MergedChunks
from frechet.execution.settings import Settings
from frechet.features import extract
from frechet.features.extractor import Layer
from frechet.images.checks import IMAGE_CHECK
from frechet.images.loader import CHUNK_SIZE
from frechet.images.sources.registry import open_source
from frechet.statistics import row_sample
from frechet.statistics.accumulator import Accumulator, LayerSummary
from frechet.statistics.row_sample import priorities

ROWS = 100
COUNT = 10 * CHUNK_SIZE + 40
SEVERAL = replace(TOY, dims=4, extra_layers={"a/layer": Layer(2, replace(TOY.spec, layer="other"))})


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(row_sample, "MAX_SAMPLE_ROWS", ROWS)


@pytest.fixture
def large(monkeypatch):
    """Use large chunks of 512 images above 1,000 images."""
    monkeypatch.setattr(chunks, "LARGE_CHUNK_THRESHOLD", 1000)
    monkeypatch.setattr(chunks, "LARGE_CHUNK_SIZE", 2 * CHUNK_SIZE)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (COUNT, PIXELS, PIXELS, 3), np.uint8)


@pytest.fixture(scope="module")
def many(images, tmp_path_factory):
    """Five large chunks and a short one."""
    path = tmp_path_factory.mktemp("many") / "many.npy"
    np.save(path, images)
    return path


class SourceOfLength:
    """A source that only knows its length."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count


@pytest.mark.slow
def test_more_than_a_million_images_use_chunks_of_16384():
    assert len(Partition.from_source(SourceOfLength(10**6), Settings())) == 3907
    assert len(Partition.from_source(SourceOfLength(10**6 + 1), Settings())) == 62
    assert Partition.from_source(SourceOfLength(10**6 + 1), Settings()).chunk_range(61) == range(61 * 16_384, 10**6 + 1)
    assert len(Partition.from_source(SourceOfLength(10**6 + 1), Settings(num_images=10**6))) == 3907
    assert len(Partition.from_source(SourceOfLength(10**6 + 1), Settings(), keep_all=True)) == 3907


@pytest.mark.slow
def test_large_chunks_give_the_statistics_and_the_row_sample_of_the_images(many, images, large, tmp_path):
    found = collect_statistics(open_source(many), Settings(seed=3, work_dir=tmp_path), TOY)
    assert len(list_chunk_files(tmp_path)) == 6
    features = first_six_values(images)
    np.testing.assert_allclose(found.mean, features.mean(0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(features.astype(float), rowvar=False), rtol=1e-12)
    chosen = np.sort(np.argsort(priorities(np.arange(COUNT), 3))[:ROWS])
    np.testing.assert_array_equal(found.indices, chosen)
    np.testing.assert_array_equal(found.rows, features[chosen])


@pytest.mark.slow
def test_large_chunks_give_the_statistics_of_small_chunks(many, large, monkeypatch):
    found = collect_statistics(open_source(many), Settings(), TOY)
    monkeypatch.setattr(chunks, "LARGE_CHUNK_THRESHOLD", COUNT)
    expected = collect_statistics(open_source(many), Settings(), TOY)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-12)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.rows, expected.rows)
    assert_same_groups(found, expected)
    metadata = ("n", "n_units", "spec", "labels", "n_source", "seed", "skipped_images", "notes", "formats")
    assert [getattr(found, name) for name in metadata] == [getattr(expected, name) for name in metadata]


def assert_same_groups(one, other):
    np.testing.assert_array_equal(one.group_moments.n, other.group_moments.n)
    np.testing.assert_allclose(one.group_moments.mean, other.group_moments.mean, rtol=1e-12)
    np.testing.assert_allclose(one.group_moments.scatter, other.group_moments.scatter, rtol=1e-5, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("is_large", [False, True])
def test_duplicates_in_different_chunks_are_one_unit(images, tmp_path, is_large, request):
    """500 of 600 images twice: 1100² / (500 · 2² + 100) = 576, and every group holds both copies of an image."""
    if is_large:
        request.getfixturevalue("large")
    np.save(tmp_path / "twice.npy", np.concatenate([images[:600], images[:500]]))
    found = collect_statistics(open_source(tmp_path / "twice.npy"), Settings(work_dir=tmp_path / "work"), TOY)
    assert len(list_chunk_files(tmp_path / "work")) == (3 if is_large else 5)
    assert (found.n, found.n_units, found.grouped_by) == (1100, 576, "image")
    np.save(tmp_path / "pairs.npy", np.concatenate([images[:500], images[:500]]))
    pairs = collect_statistics(open_source(tmp_path / "pairs.npy"), Settings(), TOY)
    single = collect_statistics(open_source(images[:500]), Settings(), TOY)
    np.testing.assert_array_equal(pairs.group_moments.n, 2 * single.group_moments.n)
    np.testing.assert_allclose(pairs.group_moments.mean, single.group_moments.mean, rtol=1e-12)


@pytest.mark.slow
def test_each_layer_has_its_own_statistics(many, images, large, tmp_path):
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


@pytest.mark.slow
def test_chunks_stay_small_if_all_features_are_kept(many, images, large, tmp_path):
    found = collect_layer_statistics(
        open_source(many), Settings(work_dir=tmp_path), SEVERAL, keep_all_by_layer={"a/layer": True}
    )
    assert len(list_chunk_files(tmp_path)) == 11
    np.testing.assert_array_equal(found["a/layer"].features, first_six_values(images)[:, 4:])


@pytest.mark.slow
def test_a_finished_run_is_read_back_and_missing_or_damaged_chunks_are_recomputed(
    many, large, tmp_path, extracted_counts
):
    undisturbed = collect_statistics(open_source(many), Settings(), TOY)
    settings = Settings(work_dir=tmp_path)
    for _ in range(2):
        assert_same_statistics(collect_statistics(open_source(many), settings, TOY), undisturbed)
    damaged, missing = (tmp_path / "images" / f"chunk-0000000{index}.npz" for index in (1, 5))
    missing.unlink()
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert_same_statistics(collect_statistics(open_source(many), settings, TOY), undisturbed)
    assert extracted_counts == [COUNT, COUNT, 0, 2 * CHUNK_SIZE + 40]


@pytest.mark.slow
def test_a_run_stopped_within_a_large_chunk_resumes_with_the_same_bits(many, large, tmp_path, monkeypatch):
    undisturbed = collect_statistics(open_source(many), Settings(), TOY)

    def stopped(*args, **options):
        for batch in extract.extract(*args, **options):
            if batch.chunk_index == 7:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr("frechet.execution.workers.extract", stopped)
        with pytest.raises(KeyboardInterrupt, match="finished chunks are kept"):
            collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    kept = list_chunk_files(tmp_path)
    assert len(kept) == 3
    assert_same_statistics(collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY), undisturbed)
    assert kept.items() <= list_chunk_files(tmp_path).items()


@pytest.mark.slow
def test_a_work_dir_with_rows_of_another_seed_is_rejected(many, large, tmp_path):
    collect_statistics(open_source(many), Settings(work_dir=tmp_path), TOY)
    with pytest.raises(RequestError, match="sample_seed was 0 and is 1"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path, seed=1), TOY)


@pytest.mark.slow
def test_a_work_dir_with_chunks_of_another_size_is_rejected(many, large, tmp_path):
    collect_statistics(open_source(many), Settings(work_dir=tmp_path / "large"), TOY)
    with pytest.raises(RequestError, match="chunk_size was 512 and is 256; sample_seed was 0 and is None"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path / "large"), TOY, keep_all=True)
    collect_statistics(open_source(many), Settings(work_dir=tmp_path / "small"), TOY, keep_all=True)
    with pytest.raises(RequestError, match="chunk_size was 256 and is 512; sample_seed was None and is 0"):
        collect_statistics(open_source(many), Settings(work_dir=tmp_path / "small"), TOY)


@pytest.mark.slow
def test_the_plan_file_has_the_keys_of_format_2(many, large, tmp_path):
    collect_statistics(open_source(many), Settings(work_dir=tmp_path, num_images=1500), TOY)
    plan = json.loads((tmp_path / "images" / "plan.json").read_text())
    assert all(key.isidentifier() and key.islower() for key in plan)
    assert list(plan) == [
        *(
            "format",
            "chunk_size",
            "sample_seed",
            "extractor",
            "layer",
            "weights",
            "preprocessing",
            "precision",
            "layers",
        ),
        *("backend", "on_bad_image", "n_source", "n_images", "subset_seed", "image_fingerprints"),
    ]
    assert (plan["format"], plan["chunk_size"], plan["n_source"], plan["n_images"]) == (2, 512, COUNT, 1500)
    assert plan["layers"] == {"features": 6}
    assert len(plan["image_fingerprints"]) == 3


@pytest.mark.slow
def test_large_chunks_are_cached(many, large, monkeypatch, tmp_path, extracted_counts):
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    once, again = (collect_statistics(open_source(many), Settings(cache=True), TOY) for _ in range(2))
    assert_same_statistics(once, again)
    (entry,) = list_cache_entries()
    assert len(list(entry.folder.glob("chunk-*"))) == 6
    assert extracted_counts == [COUNT, 0]


@pytest.mark.slow
def test_images_that_cannot_be_decoded_are_skipped(large, tmp_path, monkeypatch):
    """All images of one small chunk, and one of another."""
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


@pytest.mark.slow
def test_progress_advances_within_a_large_chunk(many, large):
    calls = []
    collect_statistics(open_source(many), Settings(batch_size=64), TOY, lambda *args: calls.append(args))
    done = [n_images for _, n_images, _ in calls]
    assert done[0] == 0
    assert done[-1] == COUNT
    assert max(np.diff(done)) <= 64


def make_small_chunk(start, rows):
    indices = np.arange(start, start + len(rows))
    return Chunk(
        indices=indices,
        layers={"features": LayerSummary(indices=indices, rows=rows)},
        image_checks=np.zeros(len(rows), IMAGE_CHECK),
        notes=[("has an alpha channel", "a.png")],
        skipped_images=["b.png: is truncated"],
    )


def make_large_chunk(n, dims):
    """Merge small chunks of random features, as a part of a run with a billion images."""
    layers, partition = (
        {"features": Accumulator(dims, 10**9, 0, keep_all=False)},
        Partition(SourceOfLength(n), range(n)),
    )
    merged, random = MergedChunks(layers, partition), np.random.default_rng(0)
    for start in range(0, n, CHUNK_SIZE):
        merged.add(make_small_chunk(start, random.random((CHUNK_SIZE, dims), np.float32)))
    return merged.to_chunk()


def encode(chunk):
    stream = io.BytesIO()
    write_chunk(chunk, stream)
    return stream.getvalue()


def test_the_size_of_a_large_chunk_does_not_grow_with_its_images():
    """Except for the index and image check of each image, and the few rows that a sample of a billion may need."""
    dims = 300
    small, big = (encode(make_large_chunk(n_small_chunks * CHUNK_SIZE, dims)) for n_small_chunks in (2, 32))
    assert read_chunk(io.BytesIO(big)).layers["features"].stored_groups.n.sum() == 32 * CHUNK_SIZE
    bytes_per_image = 8 + IMAGE_CHECK.itemsize
    assert len(big) - len(small) < 30 * CHUNK_SIZE * (bytes_per_image + 1) + 30 * 100
    groups = 10 * 8 * (1 + dims + dims * (dims + 1) // 2)  # in float64
    assert len(big) < groups + 32 * CHUNK_SIZE * (bytes_per_image + 1) + 32 * 100 + 5000


def assert_same_chunk(one, other):
    assert (one.notes, one.skipped_images) == (other.notes, other.skipped_images)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.image_checks, other.image_checks)
    assert one.layers.keys() == other.layers.keys()
    for name, layer in one.layers.items():
        np.testing.assert_array_equal(layer.indices, other.layers[name].indices)
        np.testing.assert_array_equal(layer.rows, other.layers[name].rows)
        ours, theirs = layer.stored_groups, other.layers[name].stored_groups
        assert (ours is None) == (theirs is None)
        for moments in ("n", "mean", "scatter") if ours is not None else ():
            np.testing.assert_array_equal(getattr(ours, moments), getattr(theirs, moments))
            assert getattr(ours, moments).dtype == getattr(theirs, moments).dtype


CHUNKS = {
    "small": make_small_chunk(7, np.arange(12, dtype=np.float32).reshape(4, 3)),
    "large": make_large_chunk(2 * CHUNK_SIZE, 3),
    "empty": make_small_chunk(0, np.empty((0, 3), np.float32)),
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_a_chunk_is_read_back_as_it_was_written(kind):
    assert_same_chunk(read_chunk(io.BytesIO(encode(CHUNKS[kind]))), CHUNKS[kind])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda byte: byte ^ 1, lambda byte: byte ^ 0xFF])
def test_any_damaged_byte_of_a_chunk_is_detected_or_without_effect(damage):
    """Zip archives contain a few redundant bytes, such as a second copy of each file name."""
    content = encode(CHUNKS["small"])
    n_detected = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] = damage(damaged[position])
        try:
            chunk = read_chunk(io.BytesIO(damaged))
        except Exception:
            n_detected += 1
        else:
            assert_same_chunk(chunk, CHUNKS["small"])
    assert n_detected > 0.8 * len(content)


def test_a_truncated_chunk_is_detected():
    content = encode(CHUNKS["small"])
    for size in range(len(content)):
        with pytest.raises((zipfile.BadZipFile, ValueError)):
            read_chunk(io.BytesIO(content[:size]))


def test_a_chunk_whose_arrays_come_from_different_chunks_is_detected():
    """Each array is intact, so only the checksum of the whole chunk shows it."""
    one, other = (
        zipfile.ZipFile(io.BytesIO(encode(make_small_chunk(0, np.full((4, 3), value, np.float32))))) for value in (1, 2)
    )
    mixed = io.BytesIO()
    with zipfile.ZipFile(mixed, "w") as archive:
        for name in one.namelist():
            archive.writestr(name, (other if "rows" in name else one).read(name))
        archive.comment = one.comment
    with pytest.raises(ValueError, match="checksum"):
        read_chunk(mixed)


def test_unknown_arrays_in_a_chunk_are_ignored():
    """A later version may add optional arrays to format 2."""
    stream, labels = io.BytesIO(encode(CHUNKS["small"])), io.BytesIO()
    np.save(labels, np.arange(4))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("labels.npy", labels.getvalue())
        archive.comment = chunks._compute_checksum(archive, "")
    assert_same_chunk(read_chunk(stream), CHUNKS["small"])


@pytest.mark.slow
def test_a_score_with_an_interval_does_not_depend_on_the_chunk_size(many, large, tmp_path):
    torch = pytest.importorskip("torch")

    def corner(batch):
        return torch.flatten(batch, 1)[:, :6]

    corner.input_size = 4
    other = tmp_path / "other.npy"
    np.save(other, np.random.default_rng(1).integers(0, 200, (1500, 4, 4, 3), np.uint8))
    options = {"extractor": corner, "preprocessing": "pytorch-fid"}
    found = frechet.score(str(many), str(other), work_dir=tmp_path / "work", **options)["fd"]
    assert len(list((tmp_path / "work" / "generated").glob("chunk-*"))) == 6
    assert len(list((tmp_path / "work" / "reference").glob("chunk-*"))) == 3
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chunks, "LARGE_CHUNK_THRESHOLD", 10**6)
        expected = frechet.score(str(many), str(other), **options)["fd"]
    assert float(found) == pytest.approx(float(expected), rel=1e-9)
    assert len(found.interval_95) == 2
    assert found.interval_95 == pytest.approx(expected.interval_95, rel=1e-9)

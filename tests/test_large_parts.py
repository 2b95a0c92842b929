"""Beyond a number of images, large parts that hold the statistic: the same numbers from a fraction of the bytes.

Here more than a thousand images are many, a large part is one of 512, and a hundred rows are kept.
"""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import files_of, require_same
from PIL import Image
from toy import PIXELS, TOY, first_six

import frechet
from frechet.errors import RequestError
from frechet.execution import chunks
from frechet.execution.chunks import Cut, LargePart, read_part, write_part
from frechet.execution.collect import collect_from, collect_layers
from frechet.execution.feature_cache import entries
from frechet.execution.reduce import Merged
from frechet.execution.settings import Settings
from frechet.features import extract
from frechet.features.extract import Part
from frechet.features.extractor import Tap
from frechet.images.checks import SIGN
from frechet.images.loader import PART
from frechet.images.sources.registry import open_source
from frechet.statistics import row_sample
from frechet.statistics.accumulator import Gathering
from frechet.statistics.row_sample import priorities

ROWS = 100
COUNT = 10 * PART + 40
SEVERAL = replace(TOY, dims=4, further={"a/layer": Tap(2, replace(TOY.recipe, layer="other"))})


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(row_sample, "KEPT", ROWS)


@pytest.fixture
def large(monkeypatch):
    """A thousand are many."""
    monkeypatch.setattr(chunks, "MANY", 1000)
    monkeypatch.setattr(chunks, "LARGE", 2 * PART)


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
    assert len(Cut.of(Uncounted(10**6), Settings())) == 3907
    assert len(Cut.of(Uncounted(10**6 + 1), Settings())) == 62
    assert Cut.of(Uncounted(10**6 + 1), Settings()).images_in(61) == range(61 * 16_384, 10**6 + 1)
    assert len(Cut.of(Uncounted(10**6 + 1), Settings(num_images=10**6))) == 3907
    assert len(Cut.of(Uncounted(10**6 + 1), Settings(), keep_all=True)) == 3907


def test_they_give_the_statistics_and_the_sample_of_the_images(many, images, large, tmp_path):
    found = collect_from(open_source(many), Settings(seed=3, work_dir=tmp_path), TOY)
    assert len(files_of(tmp_path)) == 6
    features = first_six(images)
    np.testing.assert_allclose(found.mean, features.mean(0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(features.astype(float), rowvar=False), rtol=1e-12)
    chosen = np.sort(np.argsort(priorities(np.arange(COUNT), 3))[:ROWS])
    np.testing.assert_array_equal(found.places, chosen)
    np.testing.assert_array_equal(found.rows, features[chosen])


def test_they_give_the_statistics_of_small_parts(many, large, monkeypatch):
    found = collect_from(open_source(many), Settings(), TOY)
    monkeypatch.setattr(chunks, "MANY", COUNT)
    expected = collect_from(open_source(many), Settings(), TOY)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-12)
    np.testing.assert_array_equal(found.places, expected.places)
    np.testing.assert_array_equal(found.rows, expected.rows)
    told = ("n", "recipe", "names", "n_source", "seed", "bad_images", "remarks", "formats")
    assert [getattr(found, name) for name in told] == [getattr(expected, name) for name in told]


def test_every_layer_has_its_own(many, images, large, tmp_path):
    once, again = (collect_layers(open_source(many), Settings(work_dir=tmp_path), SEVERAL, keep={}) for _ in range(2))
    assert len(files_of(tmp_path)) == 6
    for name, columns in (("features", slice(4)), ("a/layer", slice(4, 6))):
        features = first_six(images)[:, columns]
        np.testing.assert_allclose(once[name].mean, features.mean(0, dtype=float), rtol=1e-12)
        np.testing.assert_allclose(once[name].covariance, np.cov(features.astype(float), rowvar=False), rtol=1e-12)
        np.testing.assert_array_equal(once[name].rows, features[once[name].places])
        require_same(once[name], again[name])
    assert once["a/layer"].recipe.layer == "other"


def test_where_all_features_are_kept_parts_stay_small(many, images, large, tmp_path):
    found = collect_layers(open_source(many), Settings(work_dir=tmp_path), SEVERAL, keep={"a/layer": True})
    assert len(files_of(tmp_path)) == 11
    np.testing.assert_array_equal(found["a/layer"].features, first_six(images)[:, 4:])


def test_a_finished_run_is_read_back_and_what_is_missing_or_damaged_computed(many, large, tmp_path, computed):
    undisturbed = collect_from(open_source(many), Settings(), TOY)
    settings = Settings(work_dir=tmp_path)
    for _ in range(2):
        require_same(collect_from(open_source(many), settings, TOY), undisturbed)
    one, other = (tmp_path / "images" / f"part-0000000{number}.npz" for number in (1, 5))
    one.unlink()
    content = bytearray(other.read_bytes())
    content[len(content) // 2] ^= 1
    other.write_bytes(content)
    require_same(collect_from(open_source(many), settings, TOY), undisturbed)
    assert computed == [COUNT, COUNT, 0, 2 * PART + 40]


def test_stopped_within_a_large_part_it_continues_with_the_same_bits(many, large, tmp_path, monkeypatch):
    undisturbed = collect_from(open_source(many), Settings(), TOY)

    def stopped(*args, **options):
        for number, part in enumerate(extract.extract(*args, **options)):
            if number == 7:
                raise KeyboardInterrupt
            yield part

    with monkeypatch.context() as patched:
        patched.setattr("frechet.execution.workers.extract", stopped)
        with pytest.raises(KeyboardInterrupt, match="finished parts are kept"):
            collect_from(open_source(many), Settings(work_dir=tmp_path), TOY)
    kept = files_of(tmp_path)
    assert len(kept) == 3
    require_same(collect_from(open_source(many), Settings(work_dir=tmp_path), TOY), undisturbed)
    assert kept.items() <= files_of(tmp_path).items()


def test_rows_of_another_seed_are_another_run(many, large, tmp_path):
    collect_from(open_source(many), Settings(work_dir=tmp_path), TOY)
    told = "what a part holds was statistics and rows of seed 0, and is statistics and rows of seed 1"
    with pytest.raises(RequestError, match=told):
        collect_from(open_source(many), Settings(work_dir=tmp_path, seed=1), TOY)


def test_features_and_statistics_are_not_taken_for_each_other(many, large, tmp_path):
    collect_from(open_source(many), Settings(work_dir=tmp_path / "large"), TOY)
    with pytest.raises(RequestError, match=r"statistics and rows of seed 0, and is features; images in a part was 512"):
        collect_from(open_source(many), Settings(work_dir=tmp_path / "large"), TOY, keep_all=True)
    collect_from(open_source(many), Settings(work_dir=tmp_path / "small"), TOY, keep_all=True)
    with pytest.raises(RequestError, match="what a part holds was features, and is statistics and rows of seed 0"):
        collect_from(open_source(many), Settings(work_dir=tmp_path / "small"), TOY)


def test_a_plan_of_small_parts_says_what_it_always_said(many, tmp_path):
    """The keys of version 0.2.0, whose work-dirs and caches go on."""
    collect_from(open_source(many), Settings(work_dir=tmp_path), TOY)
    assert list(json.loads((tmp_path / "images" / "plan.json").read_text())) == [
        *("format", "images in a part", "extractor", "layer", "weights", "convention", "precision", "features"),
        *("backend", "on_bad_image", "images in the source", "images to score", "seed of the subset", "parts"),
    ]


def test_the_cache_keeps_them(many, large, monkeypatch, tmp_path, computed):
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    once, again = (collect_from(open_source(many), Settings(cache=True), TOY) for _ in range(2))
    require_same(once, again)
    (entry,) = entries()
    assert len(list(entry.folder.glob("part-*"))) == 6
    assert computed == [COUNT, 0]


def test_bad_images_are_left_out(large, tmp_path, monkeypatch):
    """All of a small part's, and one of another's."""
    bad = {*range(PART, 2 * PART), 1000}
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
    once, again = (collect_from(open_source(tmp_path / "a"), skipping, TOY) for _ in range(2))
    assert len(files_of(tmp_path / "work")) == 3
    require_same(once, again)
    monkeypatch.setattr(chunks, "MANY", 10**6)
    expected = collect_from(open_source(tmp_path / "a"), Settings(on_bad_image="skip"), TOY)
    assert once.n == 1101 - len(bad)
    assert len(once.bad_images) == len(bad)
    assert [remark for remark in once.remarks if "alpha" in remark]
    for one in (once, again):
        assert (one.remarks, one.bad_images, one.formats) == (expected.remarks, expected.bad_images, expected.formats)
        np.testing.assert_allclose(one.covariance, expected.covariance, rtol=1e-12)
        np.testing.assert_array_equal(one.places, expected.places)
        np.testing.assert_array_equal(one.rows, expected.rows)


def test_progress_moves_within_a_large_part(many, large):
    told = []
    collect_from(open_source(many), Settings(batch_size=64), TOY, lambda *what: told.append(what))
    done = [images for _, images, _ in told]
    assert done[0] == 0
    assert done[-1] == COUNT
    assert max(np.diff(done)) <= 64


def test_a_large_parts_bytes_do_not_grow_with_its_images():
    """But for 33 bytes an image of place and signs, and the few rows that a sample of a billion may need."""
    dims, random = 300, np.random.default_rng(0)

    def size_of(count):
        merged = Merged({"features": Gathering(slice(0, dims), 10**9, 0, keep_all=False)})
        for start in range(0, count, PART):
            rows = random.random((PART, dims), np.float32)
            merged.add(Part(np.arange(start, start + PART), rows, np.zeros(PART, SIGN), [], []))
        stream = io.BytesIO()
        write_part(merged.condensed(), stream)
        stream.seek(0)
        part = read_part(stream)
        assert isinstance(part, LargePart)
        assert part.layers["features"].gaussian.n == count
        return len(stream.getvalue())

    small, big = size_of(2 * PART), size_of(32 * PART)
    assert big - small < 30 * PART * 34
    assert big < 8 * dims**2 + 32 * PART * 34 + 5000


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
        patched.setattr(chunks, "MANY", 10**6)
        expected = frechet.score(str(many), str(other), **options)["fd"]
    assert float(found) == pytest.approx(float(expected), rel=1e-9)
    assert len(found.interval_95) == 2
    assert found.interval_95 == pytest.approx(expected.interval_95, rel=1e-9)

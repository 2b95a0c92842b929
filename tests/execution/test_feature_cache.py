"""Cached features give the same scores without running the network."""

import os

import numpy as np
import pytest
from filelock import FileLock
from helpers import assert_same_statistics, make_image_folder, run
from PIL import Image

import frechet
from frechet.execution.feature_cache import get_feature_cache_dir, list_cache_entries, prune_cache
from frechet.reports.run_verification import verify_run

torch = pytest.importorskip("torch")
CALLS = []


def colours(images):
    """Return mean and standard deviation of each channel; an extractor without a network that counts its images."""
    CALLS.append(len(images))
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


colours.input_size = 8
CACHED = {"extractor": colours, "cache": True}


@pytest.fixture
def home(monkeypatch, tmp_path):
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    return tmp_path


def count_extracted():
    """Return the number of images extracted since the last call, without the two from which the network is identified."""
    count = sum(CALLS) - 2
    CALLS.clear()
    return count


@pytest.mark.slow
def test_further_metrics_of_the_same_images_do_not_run_the_network(home):
    a, b = make_image_folder(home / "a", 300, size=(9, 9)), make_image_folder(home / "b", 12, seed=1, size=(9, 9))
    CALLS.clear()
    first = frechet.score(a, b, **CACHED)["fd"]
    assert count_extracted() == 312
    second = frechet.score(a, b, metrics=["fd", "kid", "vendi"], **CACHED)
    assert count_extracted() == 0
    assert float(second["fd"]) == float(first)
    expected = frechet.score(a, b, metrics=["kid"], extractor=colours)["kid"]
    assert float(second["kid"]) == float(expected)
    assert len(list(list_cache_entries())) == 2


def test_changed_images_or_settings_are_extracted_again(home):
    a = make_image_folder(home / "a", 12, size=(9, 9))
    frechet.collect(a, **CACHED)
    CALLS.clear()
    frechet.collect(a, preprocessing="pytorch-fid", **CACHED)
    assert count_extracted() == 12
    os.utime(a / "000.png", ns=(1, 1))
    frechet.collect(a, **CACHED)
    assert count_extracted() == 12


def make_mixed_folder(path):
    """Images of three chunks; every 50th is damaged, and every 70th has an alpha channel."""
    folder = make_image_folder(path, 600, size=(9, 9))
    for number in range(0, 600, 50):
        (folder / f"{number:03}.png").write_bytes(b"no image")
    for number in range(1, 600, 70):
        Image.new("RGBA", (9, 9), (number % 256, 1, 2, 3)).save(folder / f"{number:03}.png")
    return folder


@pytest.mark.slow
def test_subsets_of_cached_images_do_not_run_the_network(home):
    """They have the same statistics, notes and skipped images as without the cache."""
    folder = make_mixed_folder(home / "a")
    options = {"extractor": colours, "on_bad_image": "skip", "num_images": 400, "seed": 1}
    expected = frechet.collect(folder, **options)
    frechet.collect(folder, **(options | {"num_images": None, "cache": True}))
    CALLS.clear()
    progress = []
    found = frechet.collect(folder, cache=True, progress=lambda *args: progress.append(args), **options)
    assert count_extracted() == 0
    assert_same_statistics(found, expected)
    assert (found.notes, found.skipped_images, found.n) == (expected.notes, expected.skipped_images, expected.n)
    assert 0 < len(found.skipped_images) < 12
    assert (progress[0], progress[-1]) == (("images", 0, 400), ("images", 400, 400))
    assert len(list(list_cache_entries())) == 1  # features are not stored again


@pytest.mark.slow
@pytest.mark.parametrize("change", ["settings", "image", "incomplete", "in use"])
def test_subsets_of_images_that_are_not_all_cached_run_the_network(home, change):
    folder = make_image_folder(home / "a", 300, size=(9, 9))
    frechet.collect(folder, **CACHED)
    (entry,) = list_cache_entries()
    options = {"preprocessing": "pytorch-fid"} if change == "settings" else {}
    lock = FileLock(entry.folder / ".lock")
    if change == "image":
        os.utime(folder / "000.png", ns=(1, 1))
    elif change == "incomplete":
        next(iter(entry.folder.glob("chunk-*1.npz"))).unlink()
    elif change == "in use":
        lock.acquire()
    CALLS.clear()
    frechet.collect(folder, num_images=100, **CACHED, **options)
    assert count_extracted() == 100
    frechet.collect(folder, num_images=100, **CACHED, **options)
    assert count_extracted() == 0  # the subset itself is cached
    lock.release()


def test_a_verification_uses_the_features_of_the_run_that_it_verifies(home):
    a, b = (make_image_folder(home / name, 70, seed=seed, size=(9, 9)) for seed, name in enumerate("ab"))
    frechet.collect(b, **CACHED).save(home / "b.npz")
    (home / "run.json").write_text(frechet.score(a, home / "b.npz", **CACHED).to_json())
    CALLS.clear()
    checks = verify_run(home / "run.json", a, home / "b.npz", num_images=55, **CACHED).checks
    assert count_extracted() == 0
    assert all(check.is_consistent for check in checks)
    assert checks[0].n_images == 55


def test_two_runs_at_once_do_not_wait_for_each_other(home):
    from filelock import FileLock

    a = make_image_folder(home / "a", 12, size=(9, 9))
    first = frechet.collect(a, **CACHED)
    (entry,) = list_cache_entries()
    CALLS.clear()
    with FileLock(entry.folder / ".lock"):
        second = frechet.collect(a, **CACHED)
    assert count_extracted() == 12
    np.testing.assert_array_equal(second.mean, first.mean)
    frechet.collect(a, **CACHED)
    assert count_extracted() == 0


def test_images_in_memory_are_scored_without_the_cache(home):
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), np.uint8)
    assert frechet.collect(images, **CACHED).n == 5
    assert not list(list_cache_entries())


def test_old_entries_are_pruned(home):
    a, b = make_image_folder(home / "a", 3), make_image_folder(home / "b", 3, seed=1)
    for images in (a, b):
        frechet.collect(images, **CACHED)
    old = next(iter(list_cache_entries())).folder / "plan.json"
    os.utime(old, (0, 0))
    count, size = prune_cache(30)
    assert count == 1
    assert size > 0
    assert len(list(list_cache_entries())) == 1
    variables = {"HOME": str(home / "home"), "XDG_CACHE_HOME": str(home / "home")}
    code, out, _ = run("cache", "list", **variables)
    assert (code, "3 images" in out) == (0, True)
    assert run("cache", "prune", "--all", **variables)[1].startswith("deleted 1 entries")
    assert not list(list_cache_entries())


@pytest.mark.parametrize("damage", ["{", None])
def test_an_entry_with_a_damaged_plan_is_replaced(home, damage):
    a = make_image_folder(home / "a", 12, size=(9, 9))
    first = frechet.collect(a, **CACHED)
    (entry,) = list_cache_entries()
    if damage is None:
        (entry.folder / "plan.json").unlink()
    else:
        (entry.folder / "plan.json").write_text(damage)
    CALLS.clear()
    np.testing.assert_array_equal(frechet.collect(a, **CACHED).mean, first.mean)
    assert count_extracted() == 12
    frechet.collect(a, **CACHED)
    assert count_extracted() == 0


def test_entries_in_use_are_not_pruned(home):
    a, b = make_image_folder(home / "a", 12, size=(9, 9)), make_image_folder(home / "b", 12, size=(9, 9))
    for images in (a, b):
        frechet.collect(images, **CACHED)
    used, free = list_cache_entries()
    with FileLock(used.folder / ".lock"):
        assert prune_cache(0) == (1, free.n_bytes)
    assert [entry.folder for entry in list_cache_entries()] == [used.folder]
    assert prune_cache(0) == (1, used.n_bytes)


def test_entries_of_format_1_are_listed_as_unreadable_and_pruned(home):
    """As version 0.2.0 wrote them."""
    variables = {"HOME": str(home / "home"), "XDG_CACHE_HOME": str(home / "home")}
    folder = get_feature_cache_dir() / "0123"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text('{"format": 1, "images to score": 3, "convention": "pytorch-fid"}')
    code, out, _ = run("cache", "list", **variables)
    assert (code, "format 1" in out, "frechet cache prune" in out) == (0, True, True)
    assert run("cache", "prune", "--all", **variables)[1].startswith("deleted 1 entries")
    assert not folder.exists()


def scaled(factor):
    """Return an extractor with a number in its closure."""

    def extract(images):
        return factor * torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)

    extract.input_size = 8
    return extract


def test_features_of_a_function_with_another_closure_are_not_used_again(home):
    a, b = make_image_folder(home / "a", 12, size=(9, 9)), make_image_folder(home / "b", 12, seed=1, size=(9, 9))
    one, five = (frechet.fd(a, b, extractor=scaled(factor), cache=True) for factor in (1.0, 5.0))
    assert float(five) == pytest.approx(25 * float(one), rel=1e-5)
    assert len(list(list_cache_entries())) == 4
    assert float(frechet.fd(a, b, extractor=scaled(5.0), cache=True)) == float(five)
    assert len(list(list_cache_entries())) == 4

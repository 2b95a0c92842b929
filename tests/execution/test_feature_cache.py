"""Features that are kept: the same numbers without the network."""

import os

import numpy as np
import pytest
from filelock import FileLock
from helpers import make_image_folder, run

import frechet
from frechet.execution.feature_cache import list_cache_entries, prune_cache

torch = pytest.importorskip("torch")
CALLS = []


def colours(images):
    """Mean and deviation of each channel: an extractor without a network, that notes how many images it sees."""
    CALLS.append(len(images))
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


colours.pixels = 8
TOY = {"extractor": colours, "cache": True}


@pytest.fixture
def home(monkeypatch, tmp_path):
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    return tmp_path


def seen():
    """Images that the extractor saw since last asked, less the one by which its width was found."""
    count = sum(CALLS) - 1
    CALLS.clear()
    return count


def test_further_metrics_of_the_same_images_need_no_network(home):
    a, b = make_image_folder(home / "a", 300, size=(9, 9)), make_image_folder(home / "b", 12, seed=1, size=(9, 9))
    CALLS.clear()
    first = frechet.score(a, b, **TOY)["fd"]
    assert seen() == 312
    second = frechet.score(a, b, metrics=["fd", "kid", "vendi"], **TOY)
    assert seen() == 0
    assert float(second["fd"]) == float(first)
    expected = frechet.score(a, b, metrics=["kid"], extractor=colours)["kid"]
    assert float(second["kid"]) == float(expected)
    assert len(list(list_cache_entries())) == 2


def test_other_images_are_not_taken_for_those(home):
    a = make_image_folder(home / "a", 12, size=(9, 9))
    frechet.collect(a, **TOY)
    CALLS.clear()
    frechet.collect(a, preprocessing="pytorch-fid", **TOY)
    assert seen() == 12
    os.utime(a / "000.png", ns=(1, 1))
    frechet.collect(a, **TOY)
    assert seen() == 12


def test_two_runs_at_once_do_not_wait_for_each_other(home):
    from filelock import FileLock

    a = make_image_folder(home / "a", 12, size=(9, 9))
    first = frechet.collect(a, **TOY)
    (entry,) = list_cache_entries()
    CALLS.clear()
    with FileLock(entry.folder / ".lock"):
        second = frechet.collect(a, **TOY)
    assert seen() == 12
    np.testing.assert_array_equal(second.mean, first.mean)
    frechet.collect(a, **TOY)
    assert seen() == 0


def test_images_in_memory_are_scored_without_it(home):
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), np.uint8)
    assert frechet.collect(images, **TOY).n == 5
    assert not list(list_cache_entries())


def test_what_is_old_is_pruned(home):
    a, b = make_image_folder(home / "a", 3), make_image_folder(home / "b", 3, seed=1)
    for side in (a, b):
        frechet.collect(side, **TOY)
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
def test_an_entry_that_no_longer_says_what_it_is_begins_anew(home, damage):
    a = make_image_folder(home / "a", 12, size=(9, 9))
    first = frechet.collect(a, **TOY)
    (entry,) = list_cache_entries()
    if damage is None:
        (entry.folder / "plan.json").unlink()
    else:
        (entry.folder / "plan.json").write_text(damage)
    CALLS.clear()
    np.testing.assert_array_equal(frechet.collect(a, **TOY).mean, first.mean)
    assert seen() == 12
    frechet.collect(a, **TOY)
    assert seen() == 0


def test_what_a_run_is_using_is_not_pruned(home):
    a, b = make_image_folder(home / "a", 12, size=(9, 9)), make_image_folder(home / "b", 12, size=(9, 9))
    for side in (a, b):
        frechet.collect(side, **TOY)
    used, free = list_cache_entries()
    with FileLock(used.folder / ".lock"):
        assert prune_cache(0) == (1, free.n_bytes)
    assert [entry.folder for entry in list_cache_entries()] == [used.folder]
    assert prune_cache(0) == (1, used.size)

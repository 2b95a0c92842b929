"""Headers of arrays that NumPy fails to parse because another thread parses too (python/cpython#106905)."""

import ast
from importlib.util import find_spec

import numpy as np
import pytest
from helpers import assert_same_statistics
from toy import TOY

import frechet
from frechet.evaluation.diagnosis.float_images import open_float_images
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.sources.registry import open_source
from frechet.statistics.foreign_formats import read_feature_array

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.standard_normal((50, 4)).astype(np.float32)
IMAGES = RANDOM.integers(0, 256, (20, 4, 4, 3), np.uint8)


@pytest.fixture
def disturbed(monkeypatch):
    """Let every second header fail to be parsed."""
    parse, calls = ast.literal_eval, []

    def literal_eval(text):
        if isinstance(text, str) and "descr" in text:
            calls.append(text)
            if len(calls) % 2:
                raise SystemError("AST constructor recursion depth mismatch (before=24, after=22)")
        return parse(text)

    monkeypatch.setattr(ast, "literal_eval", literal_eval)
    yield
    assert calls


def read_images(path):
    """Return the pixels that a source reads."""
    source = open_source(path)
    return np.stack([load() for load in source.iter_loaders(range(len(source)))])


@pytest.mark.parametrize(("suffix", "save"), [("npy", np.save), ("npz", np.savez)])
def test_images(suffix, save, tmp_path, disturbed):
    save(tmp_path / f"x.{suffix}", IMAGES)
    np.testing.assert_array_equal(read_images(tmp_path / f"x.{suffix}"), IMAGES)


def test_class_labels(tmp_path, disturbed):
    np.savez(tmp_path / "x.npz", IMAGES, np.arange(20))
    assert open_source(tmp_path / "x.npz").get_class_names([3, 7]) == ["3", "7"]


def test_float_images(tmp_path, disturbed):
    np.save(tmp_path / "x.npy", IMAGES / np.float32(255))
    assert len(open_float_images(tmp_path / "x.npy", None)) == len(IMAGES)


def test_features(tmp_path, disturbed):
    np.save(tmp_path / "x.npy", FEATURES)
    np.savez(tmp_path / "x.npz", features=FEATURES)
    for name in ("x.npy", "x.npz"):
        np.testing.assert_array_equal(read_feature_array(tmp_path / name), FEATURES)


def test_statistics(tmp_path, disturbed):
    statistics = frechet.Statistics.from_features(FEATURES)
    statistics.save(tmp_path / "own.npz")
    np.testing.assert_array_equal(frechet.read_statistics(tmp_path / "own.npz").mean, statistics.mean)
    np.savez(tmp_path / "theirs.npz", mu=statistics.mean, sigma=statistics.covariance)
    np.testing.assert_array_equal(frechet.read_statistics(tmp_path / "theirs.npz").mean, statistics.mean)


@pytest.mark.skipif(find_spec("torch") is None, reason="requires PyTorch")
def test_statistics_of_pytorch_fid(tmp_path, disturbed):
    from frechet.compat.pytorch_fid import compute_statistics_of_path

    np.savez(tmp_path / "x.npz", mu=np.ones(4), sigma=np.eye(4))
    mean, covariance = compute_statistics_of_path(tmp_path / "x.npz", None, 1, 4, "cpu")
    np.testing.assert_array_equal(mean, np.ones(4))
    np.testing.assert_array_equal(covariance, np.eye(4))


def test_chunks_of_a_work_directory(tmp_path, disturbed, extracted_counts):
    np.save(tmp_path / "x.npy", IMAGES)
    source, settings = open_source(tmp_path / "x.npy"), Settings(work_dir=tmp_path / "work")
    first = collect_statistics(source, settings, TOY)
    assert_same_statistics(collect_statistics(source, settings, TOY), first)
    assert extracted_counts == [len(IMAGES), 0]  # a chunk that cannot be read is computed again

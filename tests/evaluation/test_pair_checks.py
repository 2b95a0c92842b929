"""Notes about two inputs that should not be compared as they are."""

from dataclasses import replace

import numpy as np
import pytest

from frechet.evaluation.pair_checks import iter_pair_notes, iter_sample_size_notes
from frechet.images.checks import IMAGE_CHECK, count_sizes
from frechet.statistics.feature_statistics import FeatureStatistics


def make_statistics(n=20, seed=0, **fields):
    rows = np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)
    return replace(FeatureStatistics.from_features(rows), **fields)


def list_notes(generated, reference):
    return [*iter_pair_notes(generated, reference)]


@pytest.mark.parametrize(
    ("formats", "codec"),
    [
        ({"JPEG": 20}, "JPEG"),
        ({"VP8": 20}, "lossy WebP"),
        ({"JPEG": 8, "VP8": 12}, "lossy WebP"),
        ({"JPEG": 12, "VP8": 8}, "JPEG"),
    ],
)
def test_the_codec_of_most_lossy_images_is_named(formats, codec):
    lossy, lossless = make_statistics(formats=formats), make_statistics(seed=1, formats={"PNG": 20})
    (note,) = list_notes(lossy, lossless)
    assert note.startswith(f"the generated images are {codec} and the reference ones use a lossless format")
    (note,) = list_notes(lossless, lossy)
    assert note.startswith(f"the reference images are {codec} and the generated ones use a lossless format")


@pytest.mark.parametrize(("n_sizes", "count"), [(3, "3 sizes"), (10, "10 sizes"), (14, "more than 10 sizes")])
def test_the_number_of_sizes_is_exact_or_a_lower_bound(n_sizes, count):
    checks = np.zeros(n_sizes, IMAGE_CHECK)
    checks["height"] = checks["width"] = np.arange(n_sizes) + 20
    square, various = make_statistics(sizes={"32 x 32": 20}), make_statistics(seed=1, sizes=count_sizes(checks))
    (note,) = list_notes(square, various)
    assert f"the reference images have {count}, so" in note


def test_the_smaller_input_limits_the_accuracy():
    few, many = make_statistics(20), make_statistics(100, seed=1)
    (note,) = iter_sample_size_notes(few, many)
    assert note.startswith(
        "20 generated images are compared with 100 reference images: the generated sample size limits"
    )
    assert note.endswith("Add generated images; more reference images do not help.")
    (note,) = iter_sample_size_notes(many, few)
    assert note.startswith(
        "20 reference images are compared with 100 generated images: the reference sample size limits"
    )
    assert list(iter_sample_size_notes(few, make_statistics(99, seed=1))) == []


def test_images_that_were_added_until_the_question_was_answered_are_enough():
    few, many = make_statistics(20), make_statistics(100, seed=1)
    assert list(iter_sample_size_notes(few, many, is_sequential=True)) == []
    assert len(list(iter_sample_size_notes(many, few, is_sequential=True))) == 1  # no step adds reference images


def test_one_set_compared_with_itself():
    (note,) = list_notes(make_statistics(), make_statistics())
    assert "bit-identical means" in note

"""The demonstration's parts: photographs, disturbances and the figure."""

import numpy as np
import pytest
from PIL import Image

from frechet.demo.corruptions import DISTURBANCES
from frechet.demo.photographs import EVERYDAY, FOREIGN, patches
from frechet.reports.plots import disturbance_figure, save_figure


@pytest.fixture(scope="module")
def some():
    return patches(EVERYDAY, 21, seed=0)


def test_patches_are_seeded_and_come_from_every_photograph(some):
    assert some.shape == (21, 96, 96, 3)
    np.testing.assert_array_equal(some, patches(EVERYDAY, 21, seed=0))
    assert (some != patches(EVERYDAY, 21, seed=1)).any()
    assert len({patch.tobytes() for patch in some}) == 21
    assert patches(FOREIGN, 4, seed=0).shape == (4, 96, 96, 3)


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_stronger_disturbance_changes_more(some, name):
    changes = [
        np.abs(DISTURBANCES[name](some, strength, 0).astype(int) - some).mean() for strength in (1 / 3, 2 / 3, 1.0)
    ]
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("name", ["Gaussian noise", "swirl", "foreign images", "Gaussian blur"])
def test_no_disturbance_changes_nothing(some, name):
    assert np.abs(DISTURBANCES[name](some, 0.0, 0).astype(int) - some).max() <= 1


def test_the_inputs_are_left_alone(some):
    before = some.copy()
    for disturb in DISTURBANCES.values():
        disturb(some, 1.0, 0)
    np.testing.assert_array_equal(some, before)


def test_the_figure_is_a_picture(some, tmp_path):
    curves = {name: [1.0, 2.0, 3.0] for name in DISTURBANCES}
    examples = {name: [some[0]] * 3 for name in DISTURBANCES}
    save_figure(disturbance_figure(curves, examples, [0, 0.5, 1], "FD"), tmp_path / "plot.png")
    image = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB"))
    assert image.shape[1] > 1000
    assert image.std() > 10

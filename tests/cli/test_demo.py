"""Parts of the demo: photographs, corruptions and the figure."""

import numpy as np
import pytest
from PIL import Image

from frechet.demo.corruptions import CORRUPTIONS
from frechet.demo.photographs import NATURAL_PHOTOGRAPHS, OUT_OF_DOMAIN_PHOTOGRAPHS, sample_patches
from frechet.reports.plots import plot_corruptions, save_figure


@pytest.fixture(scope="module")
def patches():
    return sample_patches(NATURAL_PHOTOGRAPHS, 21, seed=0)


def test_patches_are_seeded_and_come_from_every_photograph(patches):
    assert patches.shape == (21, 96, 96, 3)
    np.testing.assert_array_equal(patches, sample_patches(NATURAL_PHOTOGRAPHS, 21, seed=0))
    assert (patches != sample_patches(NATURAL_PHOTOGRAPHS, 21, seed=1)).any()
    assert len({patch.tobytes() for patch in patches}) == 21
    assert sample_patches(OUT_OF_DOMAIN_PHOTOGRAPHS, 4, seed=0).shape == (4, 96, 96, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_higher_levels_change_images_more(patches, name):
    changes = [
        np.abs(CORRUPTIONS[name](patches, level, 0).astype(int) - patches).mean() for level in (1 / 3, 2 / 3, 1.0)
    ]
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("name", ["Gaussian noise", "swirl", "contamination", "Gaussian blur"])
def test_level_zero_changes_nothing(patches, name):
    assert np.abs(CORRUPTIONS[name](patches, 0.0, 0).astype(int) - patches).max() <= 1


def test_corruptions_do_not_modify_their_input(patches):
    before = patches.copy()
    for corrupt in CORRUPTIONS.values():
        corrupt(patches, 1.0, 0)
    np.testing.assert_array_equal(patches, before)


@pytest.mark.slow
def test_figure_is_written_as_png(patches, tmp_path):
    curves = {name: [1.0, 2.0, 3.0] for name in CORRUPTIONS}
    examples = {name: [patches[0]] * 3 for name in CORRUPTIONS}
    save_figure(plot_corruptions(curves, examples, [0, 0.5, 1], "FD"), tmp_path / "plot.png")
    image = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB"))
    assert image.shape[1] > 1000
    assert image.std() > 10

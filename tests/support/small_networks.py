"""The networks with a smaller input, and Inception with a sixteenth of its channels, for tests that do not compare features.

They have the names of the whole networks.
"""

from dataclasses import replace

import pytest
from seeded_weights import make_seeded_state_dict, write_pth

from frechet.features.registry import EXTRACTORS

THINNING = 16
SIZES = {"inception": 107, "efficientnet-lite0": 64}


def make_small_rows():
    """Return the rows of the table with a smaller input: {name: Extractor}."""
    return {name: replace(EXTRACTORS[name], input_size=size) for name, size in SIZES.items()}


def make_thin(row):
    """Return the row of an Inception that loads the weights of `write_thin_weights`."""
    layers = {name: dims if name in ("logits", "spatial") else dims // THINNING for name, dims in row.layers.items()}
    model = replace(row.model, weights_file=replace(row.model.weights_file, n_kernel_values=None))
    return replace(row, layers=layers, model=model)


def make_thin_rows():
    """Return rows of which Inception is thin, and EfficientNet has the smallest input."""
    rows = make_small_rows()
    efficientnet = replace(rows["efficientnet-lite0"], input_size=32)
    return {"inception": make_thin(rows["inception"]), "efficientnet-lite0": efficientnet}


def write_thin_weights(path, **options):
    """Write a .pth of seeded weights of the thin Inception."""
    return write_pth(path, make_seeded_state_dict(2015, thinning=THINNING, **options))


@pytest.fixture(scope="module")
def small_inputs():
    """Reduce the input of the networks, for tests that compare two ways to use the same network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EXTRACTORS, "_entries", EXTRACTORS._entries | make_small_rows())
        yield


@pytest.fixture
def thin_weights(extractor_table, tmp_path):
    """Make Inception thin, and return the path of its weights."""
    extractor_table._entries.update(make_thin_rows())
    return write_thin_weights(tmp_path / "thin.pth", head=True)

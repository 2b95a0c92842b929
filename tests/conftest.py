import numpy as np
import pytest
from helpers import DATA, make_image_folder
from seeded_weights import make_seeded_state_dict, write_pth


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A .pth of seeded Inception weights."""
    return write_pth(tmp_path_factory.mktemp("weights") / "seeded.pth", make_seeded_state_dict(2015))


@pytest.fixture(scope="session")
def weights_with_head(tmp_path_factory):
    """The same with the class scores' layer."""
    return write_pth(tmp_path_factory.mktemp("weights") / "head.pth", make_seeded_state_dict(2015, head=True))


@pytest.fixture(scope="session")
def golden():
    with np.load(DATA / "golden.npz") as archive:
        return dict(archive)


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    """A home without any weights."""
    monkeypatch.delenv("FRECHET_WEIGHTS", raising=False)
    for variable in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path):
    """Six small images in a folder."""
    return make_image_folder(tmp_path / "images")


@pytest.fixture
def extracted_counts(monkeypatch):
    """How many images went through the network."""
    from frechet.features.extract import extract

    counts = []

    def counting_extract(image_refs, *args, **options):
        image_refs = list(image_refs)
        counts.append(len(image_refs))
        return extract(image_refs, *args, **options)

    monkeypatch.setattr("frechet.execution.workers.extract", counting_extract)
    return counts

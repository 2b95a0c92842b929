"""Weights in the cache of the Hugging Face Hub."""

import pytest

from frechet.errors import WeightsError
from frechet.networks.hub_weights import fetch_hub_weights, find_hub_weights

huggingface_hub = pytest.importorskip("huggingface_hub")
NAME = "owner/model"


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache in the layout of the Hub's client."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_cached_weights_are_found(hub_cache, name):
    snapshot = hub_cache / "models--owner--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    refs = hub_cache / "models--owner--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    (snapshot / name).touch()
    assert find_hub_weights(NAME) == snapshot / name


def test_missing_weights_error_explains_how_to_pass_a_folder(hub_cache):
    with pytest.raises(WeightsError, match=r"owner/model.*downloaded on first use.*--weights FOLDER"):
        find_hub_weights(NAME)


def test_failed_download_is_reported_with_its_cause(monkeypatch):
    def fail(*_args, **_options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(WeightsError, match=r"owner/model cannot be downloaded \(ConnectionError: no route to host\)"):
        fetch_hub_weights(NAME)

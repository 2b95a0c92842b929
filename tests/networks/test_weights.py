"""Weights: read without executing a pickle, found in the search paths, identified by their tensors."""

import os
import pickle
import zipfile

import numpy as np
import pytest
from helpers import DATA
from seeded_weights import make_seeded_state_dict, write_pth

from frechet.errors import WeightsError
from frechet.networks import inception
from frechet.networks.checkpoint import read_state_dict
from frechet.networks.inception import WEIGHTS
from frechet.networks.weights import fold_batch_norms, hash_tensors, load_weights
from frechet.networks.weights_file import find_weights


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_both_layouts_of_torch_are_read(layout):
    with np.load(DATA / "pth_values.npz") as archive:
        expected = dict(archive)
    read = read_state_dict(DATA / f"{layout}.pth")
    assert set(read) == set(expected)
    for name, value in expected.items():
        assert read[name].dtype == value.dtype
        np.testing.assert_array_equal(read[name], value)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickle_that_would_execute_code_is_rejected_by_name(tmp_path, protocol):
    bomb = pickle.dumps({"a": Bomb(tmp_path / "owned")}, protocol)
    (tmp_path / "bare.pth").write_bytes(bomb)
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("archive/data.pkl", bomb)
    for name in ("bare.pth", "zip.pth"):
        with pytest.raises(WeightsError, match=r"(posix|nt)\.mkdir"):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9])
def test_truncated_file_is_rejected(tmp_path, layout, fraction):
    whole = (DATA / f"{layout}.pth").read_bytes()
    (tmp_path / "truncated.pth").write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(WeightsError):
        read_state_dict(tmp_path / "truncated.pth")


def test_tensor_larger_than_its_storage_is_rejected(tmp_path):
    path = write_pth(tmp_path / "w.pth", {"a": np.ones((2, 3), np.float32)})
    with zipfile.ZipFile(path) as archive:
        data = {name: archive.read(name) for name in archive.namelist()}
    stretched = data["archive/data.pkl"].replace(b"J\x02\x00\x00\x00J\x03", b"J\x09\x00\x00\x00J\x03")
    assert stretched != data["archive/data.pkl"]
    data["archive/data.pkl"] = stretched
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in data.items():
            archive.writestr(name, raw)
    with pytest.raises(WeightsError, match="larger than its storage"):
        read_state_dict(path)


def test_member_that_claims_more_bytes_than_it_has_is_rejected(tmp_path):
    """Python's zipfile allocates as many bytes as the directory of the archive claims."""
    data = bytearray(write_pth(tmp_path / "w.pth", {"a": np.ones((2, 3), np.float32)}).read_bytes())
    entry = data.rindex(b"PK\1\2")
    data[entry + 20 : entry + 24] = (2**31 - 1).to_bytes(4, "little")  # the compressed size
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(WeightsError, match="members of two different sizes"):
        read_state_dict(tmp_path / "w.pth")


def test_file_of_another_kind_is_rejected(tmp_path):
    (tmp_path / "w.pth").write_text("<html>404</html>")
    with pytest.raises(WeightsError, match="cannot be read as a PyTorch state dict"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.slow
def test_seeded_state_dict_has_every_layer_of_the_network():
    assert len(list(inception.conv_layers())) == 94
    state = make_seeded_state_dict(2015)
    assert {f"{layer}.conv.weight" for layer, *_ in inception.conv_layers()} == {
        key for key in state if "conv" in key.split(".")[-2]
    }


@pytest.mark.slow
def test_folded_convolution_equals_convolution_and_batch_norm():
    state = make_seeded_state_dict(2015)
    name = "Mixed_5b.branch1x1"
    kernel, bias = fold_batch_norms(state, inception.conv_layers())[name]
    x = np.random.default_rng(0).standard_normal(kernel.shape[1])
    raw = state[f"{name}.conv.weight"][:, :, 0, 0].astype(float) @ x
    mean, variance = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
    expected = (raw - mean) / np.sqrt(variance + 1e-3) * state[f"{name}.bn.weight"] + state[f"{name}.bn.bias"]
    np.testing.assert_allclose(kernel[:, :, 0, 0] @ x + bias, expected, rtol=1e-4, atol=1e-5)


def test_digest_depends_on_names_shapes_and_values_only():
    tensors = {"b": np.ones(3, np.float32), "a": np.zeros((2, 2), np.float32)}
    assert hash_tensors(tensors) == hash_tensors(dict(reversed(tensors.items())))
    assert hash_tensors(tensors) != hash_tensors({**tensors, "b": np.full(3, 1 + 1e-6, np.float32)})
    assert hash_tensors(tensors) != hash_tensors({"b": tensors["b"], "a": np.zeros(4, np.float32)})


def test_weights_of_another_network_are_rejected(tmp_path):
    path = write_pth(tmp_path / "w.pth", {"conv1.weight": np.ones((2, 3), np.float32)})
    with pytest.raises(WeightsError, match="another network"):
        load_weights(WEIGHTS, inception.conv_layers, path)


def test_weights_with_nan_are_rejected(tmp_path):
    state = dict(make_seeded_state_dict(2015))
    state["Mixed_7c.branch1x1.bn.bias"] = np.full(320, np.nan, np.float32)
    with pytest.raises(WeightsError, match=r"Mixed_7c.branch1x1.bn.bias contains NaN"):
        load_weights(WEIGHTS, inception.conv_layers, write_pth(tmp_path / "w.pth", state))


def test_weights_search_order(no_weights, monkeypatch, tmp_path):
    hub = no_weights / "hub" / "checkpoints" / WEIGHTS.name
    cache = no_weights / "frechet" / "weights" / WEIGHTS.name
    named = tmp_path / "named" / WEIGHTS.name
    for path in (hub, cache, named):
        path.parent.mkdir(parents=True)
        path.touch()
        if path is named:
            monkeypatch.setenv("FRECHET_WEIGHTS", str(path.parent))
        assert find_weights(WEIGHTS) == path
    monkeypatch.setenv("FRECHET_WEIGHTS", str(hub))
    assert find_weights(WEIGHTS) == hub
    assert find_weights(WEIGHTS, tmp_path / "given.pth") == tmp_path / "given.pth"


def test_missing_weights_error_names_paths_source_and_alternative(no_weights):
    with pytest.raises(WeightsError) as caught:
        find_weights(WEIGHTS)
    for part in (WEIGHTS.urls[0], WEIGHTS.name, str(no_weights), "--weights", "efficientnet-lite0"):
        assert part in str(caught.value)

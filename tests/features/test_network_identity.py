"""What identifies a network that brings its own code or files: everything that it computes with, and nothing else."""

import hashlib
import importlib
import json
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from helpers import make_image_folder

import frechet
from frechet.errors import MismatchError, RequestError
from frechet.features.code_identity import hash_code
from frechet.features.file_identity import hash_model_folder, hash_onnx
from frechet.features.loading import load_extractor

torch = pytest.importorskip("torch")


def make_onnx(folder, seed, data="weights/net.data"):
    """A network whose file is the same for each seed: a mean over the pixels and a matrix in a file of its own."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    matrix = np.random.default_rng(seed).standard_normal((3, 5)).astype(np.float32)
    (folder / data).parent.mkdir(parents=True, exist_ok=True)
    (folder / data).write_bytes(matrix.tobytes())
    weights = kinds(name="w", data_type=kinds.FLOAT, dims=(3, 5), data_location=kinds.EXTERNAL)
    for key, value in {"location": data, "offset": "0", "length": str(matrix.nbytes)}.items():
        weights.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    inputs = helper.make_tensor_value_info("x", kinds.FLOAT, ["n", 3, 8, 8])
    output = helper.make_tensor_value_info("y", kinds.FLOAT, ["n", 5])
    graph = helper.make_graph(nodes, "net", [inputs], [output], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


@pytest.mark.parametrize("data", ["net.data", "weights/net.data", f"{'long' * 40}.data"])
def test_onnx_networks_that_differ_only_in_external_data_are_different_networks(tmp_path, data):
    model = make_onnx(tmp_path, 0, data)
    first, content = load_extractor(f"onnx:{model}").spec, model.read_bytes()
    (tmp_path / "n").write_text("no part of the network, though the file contains its name")
    assert load_extractor(f"onnx:{model}").spec == first
    assert make_onnx(tmp_path, 1, data).read_bytes() == content
    assert load_extractor(f"onnx:{model}").spec.weights != first.weights


@pytest.mark.parametrize("how", ["cache", "work_dir"])
def test_features_of_another_external_data_are_not_used_again(tmp_path, how, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = make_image_folder(tmp_path / "images", 12)
    options = {"cache": True} if how == "cache" else {"work_dir": tmp_path / "work"}
    model = make_onnx(tmp_path, 0)
    first = frechet.collect(images, extractor=f"onnx:{model}", **options)
    make_onnx(tmp_path, 1)
    expected = frechet.collect(images, extractor=f"onnx:{model}")
    with pytest.raises(RequestError, match="weights") if how == "work_dir" else nullcontext():
        found = frechet.collect(images, extractor=f"onnx:{model}", **options)
        np.testing.assert_array_equal(found.mean, expected.mean)
    with pytest.raises(MismatchError, match="weights"):
        frechet.score_statistics(first, expected)


def test_an_onnx_network_without_its_external_data_is_rejected(tmp_path):
    model = make_onnx(tmp_path, 0)
    (tmp_path / "weights" / "net.data").unlink()
    with pytest.raises(RequestError, match=r"net\.data, which does not exist; expected .* Copy it"):
        hash_onnx(model)


def test_a_file_without_external_data_is_identified_by_its_bytes(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"network")
    assert hash_onnx(tmp_path / "net.onnx") == hashlib.sha256(b"network").hexdigest()


def test_the_configuration_of_a_model_folder_is_part_of_its_identity(tmp_path):
    def digest(**config):
        (tmp_path / "config.json").write_text(json.dumps(config))
        return hash_model_folder("1" * 64, tmp_path / "config.json")

    assert digest(heads=4, transformers_version="4") == digest(transformers_version="5", heads=4)
    assert digest(heads=4) != digest(heads=8)
    assert digest(vision={"act": "gelu", "dtype": "a"}) == digest(vision={"act": "gelu", "dtype": "b"})
    assert digest(vision={"act": "gelu"}) != digest(vision={"act": "relu"})


CODE = """
import functools, torch
import {helper}

class Net(torch.nn.Module):
    def __init__(self, heads=1):
        super().__init__()
        self.heads, self.linear = heads, torch.nn.Linear(3, 4)
        self.norm = torch.nn.LayerNorm(4, eps=1e-5)
        self.register_buffer("shift", torch.zeros(4), persistent=False)
        self.scale = torch.ones(4)

    def forward(self, images):
        return self.norm(self.linear(images.mean((2, 3)))) * self.scale + self.shift

class Plain:
    def __init__(self):
        self.net = Net()

    def __call__(self, images):
        return self.net(images)

torch.manual_seed(0)
net = Net()
TENSORS = {{"w": torch.ones(3, 4), "names": ["w"]}}
lazy = None

def of_global(images):
    return net(images)

def of_dictionary(images):
    return helper_of_dictionary(images)

def helper_of_dictionary(images):
    return images.mean((2, 3)) @ TENSORS["w"]

def make_closure(inner):
    return lambda images: inner(images)

def loading(images):
    global lazy
    lazy = lazy or Net()
    return lazy(images)

def of_other_file(images):
    return {helper}.net(images)

of_closure = make_closure(net)
of_partial = functools.partial(lambda model, images: model(images), net)
plain = Plain()
method = plain.__call__
"""
HELPER = "import torch\n\n\ndef net(images):\n    return images.mean((2, 3)) * 1.0\n"


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A module with networks, and the module that one of them uses."""
    name = f"networks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(CODE.format(helper=f"{name}_helper"))
    (tmp_path / f"{name}_helper.py").write_text(HELPER)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    for each in (name, f"{name}_helper"):
        sys.modules.pop(each, None)


@torch.no_grad()
def change_tensor(code):
    for net in (code.net, code.plain.net):
        net.linear.weight[0, 0] += 1
    code.TENSORS["w"][0, 0] += 1


@pytest.mark.parametrize(
    "name", ["net", "of_global", "of_dictionary", "of_closure", "of_partial", "plain", "method", "loading"]
)
def test_code_whose_weights_changed_is_another_network(code, name):
    network = f"{code.__name__}:{name}"
    first = load_extractor(network).spec.weights
    assert load_extractor(network).spec.weights == first
    change_tensor(code)
    if name == "loading":
        code.lazy = code.Net()
    assert load_extractor(network).spec.weights != first


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "heads", 8),
        lambda net: setattr(net.norm, "eps", 1e-3),
        lambda net: net.shift.add_(1),
        lambda net: net.scale.mul_(2),
        lambda net: setattr(net, "linear", torch.nn.Sequential(net.linear)),
    ],
    ids=["attribute", "setting of a layer", "buffer outside the state dict", "tensor", "layers"],
)
def test_settings_of_a_module_are_part_of_its_identity(code, change):
    first = hash_code(code.net)
    assert hash_code(code.net.eval()) == first == hash_code(code.net.train())
    change(code.net)
    assert hash_code(code.net) != first


@pytest.mark.parametrize(("name", "file"), [("net", ""), ("of_global", ""), ("of_other_file", "_helper")])
def test_edited_source_code_is_another_network(code, tmp_path, name, file):
    first = hash_code(getattr(code, name))
    path = tmp_path / f"{code.__name__}{file}.py"
    path.write_text(path.read_text().replace("mean((2, 3))", "amax((2, 3))"))
    assert hash_code(getattr(code, name)) != first


def test_code_of_libraries_and_unused_values_are_no_part_of_the_identity(code):
    first = hash_code(code.of_dictionary)
    with torch.no_grad():
        code.net.linear.weight[0, 0] += 1
    assert hash_code(code.of_dictionary) == first
    assert hash_code(torch.nn.functional.relu) == hash_code(torch.nn.functional.relu)


def test_functions_of_an_interactive_session_are_identified_by_their_instructions():
    def define(text):
        names = {"__name__": "__console__"}
        exec(text, names)
        return names["net"]

    one, two = (define(f"def net(x): return x.mean((2, 3)) * {scale}") for scale in (1.0, 2.0))
    assert hash_code(one) != hash_code(two)

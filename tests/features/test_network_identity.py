"""What identifies a network that brings its own code or files: everything that it computes with, and nothing else."""

import dataclasses
import enum
import functools
import hashlib
import importlib
import json
import linecache
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import make_image_folder

import frechet
from frechet.errors import MismatchError, RequestError
from frechet.features import identity_parts
from frechet.features.code_identity import hash_code
from frechet.features.file_identity import hash_model_folder, hash_onnx
from frechet.features.installed_code import _is_file_of_library
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
import dataclasses, enum, functools, torch
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

def of_local_import(images):
    from {helper} import net

    return net(images)

@dataclasses.dataclass
class Settings:
    scale: float

    def __call__(self, images):
        return images.mean((2, 3)) * self.scale

class Colour(enum.Enum):
    MEAN = 1

    def __call__(self, images):
        return images.amin((2, 3))

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


def reload(code, text, file=""):
    """Import the module, or the one that it uses, with another source code."""
    name = f"{code.__name__}{file}"
    path = Path(sys.modules[name].__file__)
    path.write_text(text)
    path.touch()
    importlib.invalidate_caches()
    for each in (name, code.__name__):
        sys.modules.pop(each, None)
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
    return importlib.import_module(code.__name__)


def read_source(code, file=""):
    return Path(sys.modules[f"{code.__name__}{file}"].__file__).read_text()


@pytest.mark.parametrize(
    ("name", "file"), [("net", ""), ("of_global", ""), ("of_other_file", "_helper"), ("of_local_import", "_helper")]
)
def test_edited_source_code_is_another_network(code, name, file):
    first = hash_code(getattr(code, name))
    changed = reload(code, read_source(code, file).replace("mean((2, 3))", "amax((2, 3))"), file)
    assert hash_code(getattr(changed, name)) != first


@pytest.mark.parametrize("name", ["net", "of_global", "of_other_file", "of_closure", "plain", "method"])
def test_comments_docstrings_and_unrelated_code_are_no_part_of_the_identity(code, name):
    first = hash_code(getattr(code, name))
    text = read_source(code).replace(
        "    def forward(self, images):\n", '    def forward(self, images: "annotated"):\n        """Doc."""\n'
    )
    changed = reload(code, f"# a comment\n\n{text}\n\ndef unrelated():\n    pass  # at the end\n")
    assert hash_code(getattr(changed, name)) == first


def test_a_file_that_is_edited_after_its_import_does_not_change_the_identity(code):
    path, text = Path(code.__file__), read_source(code)
    first = hash_code(code.of_dictionary)
    path.write_text(f"# a comment\n{text}")
    linecache.checkcache(str(path))
    assert hash_code(code.of_dictionary) == first
    path.write_text(text.replace("TENSORS[", "OTHERS["))
    linecache.checkcache(str(path))
    edited = hash_code(code.helper_of_dictionary)  # of the instructions that run, not of the file
    path.unlink()
    linecache.checkcache(str(path))
    assert hash_code(code.helper_of_dictionary) == edited


def test_code_of_libraries_and_unused_values_are_no_part_of_the_identity(code):
    first = hash_code(code.of_dictionary)
    with torch.no_grad():
        code.net.linear.weight[0, 0] += 1
    assert hash_code(code.of_dictionary) == first
    assert hash_code(torch.nn.functional.relu) == hash_code(torch.nn.functional.relu)


def test_functions_of_an_interactive_session_are_identified_by_their_instructions():
    one, two = (define(f"def net(x): return x.mean((2, 3)) * {scale}") for scale in (1.0, 2.0))
    assert hash_code(one) != hash_code(two)


def scaled(scale):
    """Return an extractor with a value in its closure."""

    def extract(images):
        return (images, scale)

    return extract


class Mode(enum.Enum):
    MEAN = 1
    STD = 2


VALUES = [1.0, 1, True, None, "a", b"a", 5.0, (1, 2), (2, 1), [1, 2], {"a": 1}, {"a": 2}, {1, 2}, frozenset({1, 2})]
VALUES += [
    Mode.MEAN,
    Mode.STD,
    torch.float32,
    torch.float64,
    np.float32(1),
    np.arange(2),
    torch.ones(2),
    torch.relu,
    torch.tanh,
]
VALUES += [
    abs,
    np.abs,
    {"a": [torch.zeros(2), 1]},
    {"a": [torch.zeros(2), 2]},
    SimpleNamespace(a=1),
    SimpleNamespace(a=2),
    Mode,
]
PLACES = {
    "closure": scaled,
    "default": lambda value: _with_default(value, None),
    "keyword default": lambda value: _with_default(None, value),
    "attribute": lambda value: _with_attributes(value),
    "partial": lambda value: functools.partial(scaled, value),
    "attribute of an object": lambda value: _Extractor(value),
    "nested function": lambda value: _nest(value),
    "decorated function": lambda value: torch.no_grad()(scaled(value)),
    "wrapped function": lambda value: functools.wraps(scaled(value))(lambda images: images),
    "cached function": lambda value: functools.lru_cache(scaled(value)),
}


def _with_default(one, two):
    def extract(images, scale=one, *, shift=two):
        return images, scale, shift

    return extract


def _with_attributes(value):
    def extract(images):
        return images

    extract.scale = value
    return extract


def _nest(value):
    def extract(images):
        def inner():
            return images, value

        return inner()

    return extract


class _Extractor:
    def __init__(self, scale):
        self._scale = scale

    def __call__(self, images):
        return images, self._scale


@pytest.mark.parametrize("place", PLACES)
def test_plain_values_are_part_of_the_identity(place):
    found = [hash_code(PLACES[place](value)) for value in VALUES]
    assert len(set(found)) == len(VALUES)
    assert [hash_code(PLACES[place](value)) for value in VALUES] == found


@pytest.mark.slow
def test_the_function_in_a_compiled_one_is_part_of_the_identity():
    class Net(torch.nn.Module):
        scale = 2

        def forward(self, images):
            return images * self.scale

    net = Net()
    function, compiled = (torch.compile(each, backend="eager") for each in (net.forward, net))
    first = [hash_code(function), hash_code(compiled)]
    assert [hash_code(function), hash_code(compiled)] == first
    net.scale = 3
    assert not {hash_code(function), hash_code(compiled)} & set(first)


def test_the_methods_of_a_callable_enum_are_part_of_the_identity(code):
    first = hash_code(code.Colour.MEAN)
    changed = reload(code, read_source(code).replace("amin((2, 3))", "amax((2, 3))"))
    assert hash_code(changed.Colour.MEAN) != first


def define(text, **values):
    names = {"__name__": "__console__", "torch": torch, **values}
    exec(text, names)
    return names["net"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("def net(x): return x.mean() * SCALE", {}),
        ("def net(x): return [x.mean() * SCALE for _ in range(3)]", {}),
        ("def net(x):\n    class Inner:\n        scale = SCALE\n    return x.mean() * Inner.scale", {}),
        ("def net(x): return lambda: x.mean() * SCALE", {}),
    ],
)
def test_only_globals_that_the_code_loads_are_part_of_the_identity(text, values):
    first = hash_code(define(text, SCALE=1.0, **values))
    assert hash_code(define(text, SCALE=2.0, **values)) != first
    unrelated = {"mean": torch.tensor(0.123), "x": 3, "scale": 2, "Inner": 1, "_": 0}
    assert hash_code(define(text, SCALE=1.0, **unrelated, **values)) == first


@pytest.mark.parametrize("expression", ["config.scale", "config['scale']", "config.inner.scale", "config['inner'][0]"])
def test_only_the_settings_that_the_code_loads_are_part_of_the_identity(expression):
    def make(scale, rate):
        if "[" in expression:
            return {"scale": scale, "rate": rate, "inner": [scale, rate]}
        return SimpleNamespace(scale=scale, rate=rate, inner=_Extractor(scale))

    text = f"def net(x): return x * {expression}".replace("inner.scale", "inner._scale")
    first = hash_code(define(text, config=make(1, 2)))
    assert hash_code(define(text, config=make(1, 3))) == first
    assert hash_code(define(text, config=make(2, 2))) != first
    assert hash_code(define("def net(x): return f(config)", config=make(1, 2))) != hash_code(
        define("def net(x): return f(config)", config=make(1, 3))
    )


BY_NAME = """
import importlib, operator, torch
import {helper} as helper

SCALE = 1.0
kind = "SCALE"

def attribute(images): return images * getattr(helper, kind)
def variables(images): return images * vars(helper)[kind]
def dictionary(images): return images * helper.__dict__[kind]
def getter(images): return images * operator.attrgetter(kind)(helper)
def local_import(images):
    import {helper}
    return images * getattr({helper}, kind)
def imported(images): return images * getattr(importlib.import_module("{helper}"), kind)
def built_in_import(images): return images * __import__("{helper}").SCALE
def own(images): return images * globals()[kind]
def evaluated(images): return images * eval("SCA" + "LE")
def of_self(images): return images * getattr(images, kind, 1)
def method(images): return images.eval()
"""


@pytest.fixture
def by_name(tmp_path, monkeypatch):
    """A module with functions that load values by name, and the module with these values."""
    name = f"by_name_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(BY_NAME.format(helper=f"{name}_helper"))
    (tmp_path / f"{name}_helper.py").write_text("SCALE, OTHER = 1.0, 2.0")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    for each in (name, f"{name}_helper"):
        sys.modules.pop(each, None)


@pytest.mark.parametrize(
    "name",
    [
        *("attribute", "variables", "dictionary", "getter", "local_import", "imported"),
        *("built_in_import", "own", "evaluated"),
    ],
)
def test_values_of_modules_that_are_loaded_by_name_are_part_of_the_identity(by_name, name):
    function, module = getattr(by_name, name), by_name if name in ("own", "evaluated") else by_name.helper
    first = hash_code(function)
    assert hash_code(function) == first
    module.SCALE = 5.0
    assert hash_code(function) != first


@pytest.mark.parametrize("name", ["of_self", "method"])
def test_attributes_of_other_objects_by_name_do_not_add_the_values_of_a_module(by_name, name):
    first = hash_code(getattr(by_name, name))
    by_name.SCALE = by_name.helper.SCALE = 5.0
    assert hash_code(getattr(by_name, name)) == first


def test_of_a_program_only_globals_whose_names_are_in_the_code_count():
    """A program has results among its globals, with which the identity would change."""
    text = "def net(x): return x * globals()['SCALE']"
    first = hash_code(define(text, SCALE=1.0, result=1.0))
    assert hash_code(define(text, SCALE=1.0, result=2.0)) == first
    assert hash_code(define(text, SCALE=2.0, result=1.0)) != first


def test_values_that_each_call_changes_are_no_part_of_the_identity():
    seen, state = [], {"number": 0, "scale": 2.0, "last": torch.zeros(3)}

    def extract(images):
        seen.append(len(images))
        state["number"] += 1
        state["last"] = images.mean((2, 3))
        return state["last"] * state["scale"]

    extract.input_size = 8
    first = load_extractor(extract).spec.weights
    extract(torch.rand(2, 3, 8, 8))
    assert load_extractor(extract).spec.weights == first
    state["scale"] = 3.0
    assert load_extractor(extract).spec.weights != first


def test_devices_are_no_part_of_the_identity():
    assert hash_code(scaled(torch.device("cpu"))) == hash_code(scaled(torch.device("meta")))
    assert hash_code(scaled("cuda:1")) == hash_code(scaled("cpu"))


def test_a_hook_of_a_module_is_part_of_its_identity():
    net = torch.nn.Linear(3, 3)
    first = hash_code(net)
    net.register_forward_hook(lambda module, args, output: 2 * output)
    assert hash_code(net) != first


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
def test_the_instructions_of_traced_code_are_part_of_its_identity():
    relu, tanh = (torch.jit.trace(each, torch.ones(2)) for each in (torch.nn.ReLU(), torch.nn.Tanh()))
    assert hash_code(relu) != hash_code(tanh)
    one, two = (torch.fx.symbolic_trace(torch.nn.Sequential(each())) for each in (torch.nn.ReLU, torch.nn.Tanh))
    assert hash_code(one) != hash_code(two)


def test_packages_in_the_folder_of_a_user_are_libraries():
    assert _is_file_of_library("/home/me/.local/lib/python3.11/site-packages/net/__init__.py")
    assert not _is_file_of_library("/home/me/project/net.py")


def make_colours(factor):
    def colours(images):
        return factor * images.mean((2, 3))

    colours.input_size = 8
    return colours


@pytest.mark.parametrize("use", ["score", "loss", "metric"])
def test_statistics_of_another_function_are_rejected_by_the_name_of_what_differs(tmp_path, monkeypatch, use):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    frechet.collect(images, extractor=make_colours(1.0)).save(tmp_path / "one.npz")
    monkeypatch.setattr(identity_parts, "_PARTS", {})  # as in another process

    def run(factor):
        if use == "score":
            return frechet.score(images, tmp_path / "one.npz", extractor=make_colours(factor))
        if use == "loss":
            return pytest.importorskip("frechet.losses.torch").FIDLoss(
                tmp_path / "one.npz", extractor=make_colours(factor)
            )
        pytest.importorskip("torchmetrics")
        metrics = importlib.import_module("frechet.integrations.torchmetrics")
        return metrics.FID(tmp_path / "one.npz", extractor=make_colours(factor))

    run(1.0)
    with pytest.raises(MismatchError, match=r"\(the closure variable factor of .* is 5\.0 and 1\.0\)"):
        run(5.0)


def test_long_strings_are_not_stored_with_statistics():
    assert "secret" not in str(_parts_of(scaled("secret of more than twenty characters")))
    assert "'layer3'" in str(_parts_of(scaled("layer3")))


def _parts_of(function):
    return identity_parts.get_parts(hash_code(function))


def test_methods_that_dataclasses_generate_are_no_part_of_the_identity(code):
    """They differ between versions of Python."""
    code.Settings.__replace__ = dataclasses.replace  # as from Python 3.13 on
    first = hash_code(code.Settings(2.0))
    del code.Settings.__replace__
    assert hash_code(code.Settings(2.0)) == first
    assert hash_code(code.Settings(3.0)) != first

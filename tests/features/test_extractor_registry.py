"""The table of extractors, and extractors added by a user or an installed package."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from helpers import make_image_folder
from PIL import Image
from toy_extractor import TOY_EXTRACTOR, compute_toy_features

import frechet
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.errors import RequestError
from frechet.features.loading import load_extractor
from frechet.features.models import BACKENDS
from frechet.features.registry import EXTRACTORS, Extractor, register_extractor
from frechet.preprocessing.registry import PREPROCESSINGS


@pytest.fixture
def folders(tmp_path):
    return make_image_folder(tmp_path / "a", 12, size=(8, 8)), make_image_folder(tmp_path / "b", 12, 1, size=(8, 8))


@pytest.mark.parametrize("backend", BACKENDS)
def test_registered_extractor_scores_by_name(toy_options, folders, backend):
    if backend != "openvino":
        pytest.importorskip(backend)
    score = frechet.score(*folders, **toy_options, backend=backend)["fd"]
    expected = frechet_terms(*(Gaussian.from_features(compute_toy_features(folder)) for folder in folders)).total
    assert float(score) == pytest.approx(expected, rel=1e-4)
    assert score.label.startswith("FD-Toy")
    assert score.provenance["extractor"] == "toy-name"


@pytest.fixture
def plugin(tmp_path):
    """The folder of an installed package with two extractors: a function of tensors, and one that fails on import."""
    folder = tmp_path / "site"
    metadata = folder / "toy_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "toy_plugin.py").write_text(
        textwrap.dedent("""
            from frechet.features.registry import Extractor
            from frechet.features.whole_models import FunctionModel

            def mean_colour(images):
                return images.mean((2, 3))

            MEAN_COLOUR = Extractor(
                title="mean colour",
                model=FunctionModel(function=mean_colour),
                layers={"mean": 3},
                default_layer="mean",
                input_size=8,
                preprocessings=("pytorch-fid",),
            )
        """)
    )
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[frechet.extractors]\nmean-colour = toy_plugin:MEAN_COLOUR\nbroken = absent_module:X\n"
    )
    return folder


def test_extractor_of_an_installed_package_scores_by_name(extractor_table, folders, plugin, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(plugin)
    score = frechet.score(*folders, extractor="mean-colour")["fd"]
    means = [
        2 * np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]).mean((1, 2)) / 255 - 1
        for folder in folders
    ]
    assert float(score) == pytest.approx(frechet_terms(*map(Gaussian.from_features, means)).total, rel=1e-4)
    assert score.label == "FD-mean colour"
    assert score.provenance["layer"] == "mean"


@pytest.mark.slow
@pytest.mark.subprocess
def test_command_line_uses_the_extractor_of_an_installed_package(folders, plugin):
    pytest.importorskip("torch")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(plugin), *sys.path])}

    def run(*arguments):
        command = [sys.executable, "-m", "frechet", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=True)

    assert "FD-mean colour" in run("score", *folders, "--extractor", "mean-colour", "--interval", "none").stdout
    listed = run("extractors")
    assert "mean-colour" in listed.stdout
    assert "broken" in listed.stderr
    assert "absent_module" in listed.stderr


def test_registering_a_name_twice_is_rejected(extractor_table):
    register_extractor("toy-name", TOY_EXTRACTOR)
    for name in ("toy-name", "inception"):
        with pytest.raises(RequestError, match=f"'{name}' is already registered"):
            register_extractor(name, TOY_EXTRACTOR)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"default_layer": "6"}, "default_layer is '6'; expected 5"),
        ({"layers": {"5": 5, "other": 5}}, "different numbers of features"),
        ({"preprocessings": ()}, "preprocessings is empty"),
    ],
)
def test_invalid_entries_are_rejected(fields, message):
    values = {name: getattr(TOY_EXTRACTOR, name) for name in TOY_EXTRACTOR.__dataclass_fields__}
    with pytest.raises(RequestError, match=message):
        Extractor(**values | fields)


def test_entry_with_a_wrong_number_of_features_is_rejected_on_loading(extractor_table):
    pytest.importorskip("torch")
    from frechet.features.whole_models import FunctionModel

    values = {name: getattr(TOY_EXTRACTOR, name) for name in TOY_EXTRACTOR.__dataclass_fields__}
    register_extractor("wrong", Extractor(**values | {"model": FunctionModel(function=lambda x: x.mean((2, 3)))}))
    with pytest.raises(RequestError, match=r"wrong returns 3 features.* states 5; correct `layers`"):
        load_extractor("wrong")


@pytest.mark.parametrize("name", EXTRACTORS)
def test_built_in_entries_are_complete(name):
    extractor = EXTRACTORS[name]
    assert set(extractor.preprocessings) <= set(PREPROCESSINGS)
    assert extractor.licence != "not stated"
    assert "arXiv:" in extractor.paper
    assert extractor.model.weights_source
    assert set(extractor.model.heads) <= set(extractor.layers)
    assert set(extractor.backends) <= set(BACKENDS)

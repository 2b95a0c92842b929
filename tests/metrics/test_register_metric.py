"""Metrics that users and installed packages add to the table."""

import numpy as np
import pytest
from helpers import run

import frechet
from frechet.errors import RequestError
from frechet.metrics import METRICS, Metric, MetricInputs, MetricResult, register_metric

TOY_MODULE = """
from frechet.metrics import Metric, MetricResult


def compute_shift(inputs, *, power):
    generated, reference = inputs.pair
    return MetricResult(value=float((abs(generated.mean - reference.mean) ** power).sum()))


SHIFT = Metric(
    title="Shift", summary="sum of powers of the differences of the feature means", paper="toy", lower_is_better=True,
    compute=compute_shift, settings={"power": 1}, presets={"squared": {"power": 2}}, full_feature_inputs=(),
)
"""


def compute_mean_shift(inputs: MetricInputs) -> MetricResult:
    generated, reference = inputs.pair
    return MetricResult(value=float((generated.mean - reference.mean).sum()), terms={"n_dims": generated.dims})


TOY = Metric(
    title="Shift", summary="sum of the differences of the feature means", paper="toy", lower_is_better=None,
    compute=compute_mean_shift, full_feature_inputs=(),
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    """Registered metrics disappear after each test."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))


@pytest.fixture
def installed_package(tmp_path, monkeypatch):
    """A folder on the path that holds an installed distribution with one entry point."""
    (tmp_path / "toy_shift_metric.py").write_text(TOY_MODULE)
    metadata = tmp_path / "toy_shift_metric-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-shift-metric\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[frechet.metrics]\ntoy-shift = toy_shift_metric:SHIFT\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def features(tmp_path):
    """Two files of features, whose means differ by 0.5 in the first of three dimensions and by -2 in the second."""
    x = np.random.default_rng(0).integers(-8, 8, (30, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x + np.array([0.5, -2, 0], np.float32))
    np.save(tmp_path / "y.npy", x)
    return tmp_path / "x.npy", tmp_path / "y.npy"


def test_a_registered_metric_is_computed_with_the_others(features):
    register_metric("toy-shift", TOY)
    scores = frechet.score(*features, features=True, metrics=["fd", "toy-shift"])
    assert float(scores["toy-shift"]) == pytest.approx(-1.5)
    assert scores["toy-shift"].terms == {"n_dims": 3}
    assert scores["toy-shift"].label.startswith("Shift")
    assert "toy-shift" in frechet.score(*features, features=True, metrics="all")


@pytest.mark.parametrize(("name", "row"), [("fid", TOY), ("a b", TOY), ("toy", compute_mean_shift)])
def test_taken_names_invalid_names_and_other_types_are_rejected(name, row):
    before = list(METRICS)
    with pytest.raises(RequestError, match=f"metric '{name}'|'{name}' is not a valid metric name"):
        register_metric(name, row)
    assert list(METRICS) == before


def test_a_metric_of_an_installed_package_is_computed_by_name_and_preset(features, installed_package):
    scores = frechet.score(*features, features=True, metrics=["toy-shift", "toy-shift@squared"])
    assert float(scores["toy-shift"]) == pytest.approx(2.5)
    assert float(scores["toy-shift@squared"]) == pytest.approx(4.25)


def test_a_metric_of_an_installed_package_is_available_on_the_command_line(features, installed_package):
    path = {"PYTHONPATH": f"{installed_package}:{frechet.__path__[0]}/.."}
    code, out, _ = run("score", *features, "--features", "--metrics", "toy-shift", **path)
    assert code == 0
    assert "2.5" in out
    code, out, _ = run("metrics", **path)
    assert code == 0
    assert any(line.startswith("toy-shift ") for line in out.splitlines())

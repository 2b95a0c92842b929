# ruff: noqa: E402
"""Fixtures of all tests, and the share of the machine that each pytest-xdist worker uses."""

import importlib.util
import os
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook

# All tests check the shapes and types that annotations in frechet.distances promise. This has to precede the first import
# of frechet, hence E402.
install_import_hook("frechet.distances", "typecheck.check_types")

import threadpoolctl
from example_scripts import run_example  # noqa: F401, a fixture
from fake_inception import fake_inception  # noqa: F401, a fixture
from filelock import FileLock
from helpers import DATA, make_image_folder
from seeded_weights import make_seeded_state_dict, write_pth
from small_networks import small_inputs, thin_weights  # noqa: F401, fixtures
from statistics_server import server  # noqa: F401, a fixture
from toy_extractor import extractor_table, toy_options  # noqa: F401, fixtures
from typecheck import without_type_checks  # noqa: F401, a fixture
from weights_read_once import weights_read_once  # noqa: F401, a fixture

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
WORKER_COUNT = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def pin_to_cores(worker_index, worker_count):
    """Keep this process and its children to its share of the cores.

    BLAS, OpenVINO, PyTorch and XLA start one thread per core that they may run on. Without this, every worker starts
    threads for the whole machine, and they wait for each other.
    """
    cores = sorted(os.sched_getaffinity(0))
    share = cores[worker_index::worker_count] or [cores[worker_index % len(cores)]]
    os.sched_setaffinity(0, share)
    threadpoolctl.threadpool_limits(len(share))  # NumPy's BLAS has counted the cores already


if WORKER_COUNT > 1 and hasattr(os, "sched_setaffinity"):
    pin_to_cores(int(WORKER.removeprefix("gw")), WORKER_COUNT)


def choose_xla_flags():
    """Return flags that save time of compilation; the second one is an error in some older version."""
    yield "--xla_backend_optimization_level=0"
    if importlib.util.find_spec("jaxlib") and int(metadata.version("jaxlib").split(".")[1]) >= 10:
        yield "--xla_cpu_use_fusion_emitters=false"


def pytest_configure(config):
    """Let JAX keep what it compiled, and Matplotlib its list of fonts, between processes and runs, in pytest's cache.

    XLA compiles small programs in half the time without optimisation; XLA_FLAGS= before the command turns it on.
    """
    os.environ.setdefault("XLA_FLAGS", " ".join(choose_xla_flags()))
    if hasattr(config, "cache"):
        os.environ.setdefault("MPLCONFIGDIR", str(config.cache.mkdir("matplotlib")))
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")


def pytest_collection_modifyitems(items):
    """Run the longest tests first, so that the workers finish at about the same time."""
    items.sort(key=lambda item: item.path.name != "test_parity.py")


@pytest.fixture(scope="session")
def shared_tmp_path(tmp_path_factory):
    """A folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if WORKER_COUNT > 1 else base) / "shared"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture(scope="session")
def weights(shared_tmp_path):
    """A .pth of seeded Inception weights."""
    return write_weights_once(shared_tmp_path / "seeded.pth")


@pytest.fixture(scope="session")
def weights_with_head(shared_tmp_path):
    """A .pth of seeded Inception weights that includes the layer of class scores."""
    return write_weights_once(shared_tmp_path / "head.pth", head=True)


def write_weights_once(path: Path, **options):
    """Write seeded weights, unless another worker has done so."""
    with FileLock(path.with_suffix(".lock")):
        return path if path.exists() else write_pth(path, make_seeded_state_dict(2015, **options))


@pytest.fixture(scope="session")
def golden():
    """Numbers of other tools on the photographs: {name: array}."""
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
    """How many images each call passed through the network."""
    from frechet.features.extract import extract

    counts = []

    def counting_extract(image_refs, *args, **options):
        image_refs = list(image_refs)
        counts.append(len(image_refs))
        return extract(image_refs, *args, **options)

    monkeypatch.setattr("frechet.execution.workers.extract", counting_extract)
    return counts

"""The rules of the house: what imports what, and what stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import frechet

SOURCE = Path(frechet.__file__).parent
FRAMEWORKS = {
    "openvino",
    "torch",
    "jax",
    "matplotlib",
    "skimage",
    "sklearn",
    "scipy",
    "ray",
    "transformers",
    "fsspec",
    "pyarrow",
    "h5py",
    "lmdb",
}
OWNERS = {
    "backends/jax.py": {"jax"},
    "backends/openvino.py": {"openvino"},
    "backends/transformers.py": {"torch"},
    "backends/torch.py": {"torch"},
    "compat/fastfid.py": {"torch"},
    "compat/inception_v3.py": {"torch"},
    "compat/is_fid.py": {"torch"},
    "execution/ray.py": {"ray"},
    "execution/torchrun.py": {"torch"},
    "integrations/torchmetrics.py": {"torch"},
    "features/jax_network.py": {"jax"},
    "jax.py": {"jax"},
    "losses/jax.py": {"jax"},
    "losses/torch.py": {"torch"},
    "losses/torch_features.py": {"torch"},
    "reports/plots.py": {"matplotlib"},
}


def module_level_imports(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_frameworks_are_imported_by_their_owners_alone(path):
    found = set(module_level_imports(path)) & FRAMEWORKS
    assert found == OWNERS.get(str(path.relative_to(SOURCE)), set())


@pytest.mark.parametrize("module", ["frechet", "frechet.cli.main", "frechet.cli.score", "frechet.evaluation.run"])
def test_importing_loads_no_framework(module):
    probe = f"import sys, {module}; print(sorted({sorted(FRAMEWORKS)!r} & sys.modules.keys()))".replace(
        "['", "{'"
    ).replace("']", "'}")
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_not_even_numpy():
    probe = "import sys; sys.argv[1:] = ['--help']\nimport frechet.cli.main as m\ntry: m.main()\nexcept SystemExit: pass\nprint('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")


def test_public_names_are_sorted_and_exist():
    assert frechet.__all__ == sorted(frechet.__all__)
    for name in frechet.__all__:
        assert getattr(frechet, name) is not None
    assert set(frechet.__all__) == {*frechet._HOME, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = frechet.nonsense


def test_the_changelog_knows_this_version():
    changelog = (SOURCE.parents[1] / "CHANGELOG.md").read_text()
    assert f"## [{frechet.__version__}]" in changelog
    assert "### Scores" in changelog


def test_no_public_function_bears_its_modules_name():
    modules = {path.stem for path in SOURCE.glob("*.py")} | {path.name for path in SOURCE.iterdir() if path.is_dir()}
    assert not set(frechet.__all__) & (modules - {"__init__"})

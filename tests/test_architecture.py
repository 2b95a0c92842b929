"""What keeps the package light and its public names in order. The order of imports is the import-linter contract in pyproject.toml."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import frechet

SOURCE = Path(frechet.__file__).parent
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def ruff_settings():
    """The settings of ruff in pyproject.toml, which hold the table of modules that may import a framework (TID253)."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib is new in Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]


@pytest.fixture(scope="module")
def frameworks(ruff_settings):
    return set(ruff_settings["flake8-tidy-imports"]["banned-module-level-imports"])


def get_module_level_imports(path):
    statements = ast.parse(path.read_text()).body
    for node in [*statements, *(inner for each in statements if isinstance(each, ast.With) for inner in each.body)]:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


@pytest.mark.slow
def test_table_of_framework_imports_is_exact(ruff_settings, frameworks):
    listed = {path for path, rules in ruff_settings["per-file-ignores"].items() if "TID253" in rules}
    importing = {
        f"src/frechet/{path.relative_to(SOURCE).as_posix()}"
        for path in SOURCE.rglob("*.py")
        if frameworks & set(get_module_level_imports(path))
    }
    assert {path for path in listed if path.startswith("src/")} == importing


@pytest.mark.subprocess
@pytest.mark.parametrize("module", ["frechet", "frechet.cli.main", "frechet.cli.score", "frechet.evaluation.run"])
def test_importing_loads_no_framework(module, frameworks):
    probe = f"import sys, {module}; print(*({{*{sorted(frameworks)}}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.subprocess
def test_help_does_not_load_numpy():
    probe = "import sys; sys.argv[1:] = ['--help']\nimport frechet.cli.main as m\ntry: m.main()\nexcept SystemExit: pass\nprint('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")


def test_public_names_are_sorted_and_exist():
    assert frechet.__all__ == sorted(frechet.__all__)
    for name in frechet.__all__:
        assert getattr(frechet, name) is not None
    assert set(frechet.__all__) == {*frechet._HOME, "__version__"}
    with pytest.raises(AttributeError, match="nonsense"):
        _ = frechet.nonsense


def test_no_public_function_has_the_name_of_a_module():
    modules = {path.stem for path in SOURCE.glob("*.py")} | {path.name for path in SOURCE.iterdir() if path.is_dir()}
    assert not set(frechet.__all__) & (modules - {"__init__"})


def test_changelog_has_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{frechet.__version__}]" in changelog
    assert "### Scores" in changelog

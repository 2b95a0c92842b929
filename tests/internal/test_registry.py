"""Tables that users and installed packages extend."""

import subprocess
import sys

import pytest

from frechet._internal.registry import Registry
from frechet.errors import RequestError


@pytest.fixture
def registry():
    return Registry("number", int, "frechet.test_numbers", {"one": 1})


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """An installed distribution with three entry points: one good, one of another type, one that fails on import."""
    (tmp_path / "numbers_plugin.py").write_text("TWO = 2\nTEXT = 'two'\n")
    metadata = tmp_path / "numbers_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: numbers-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[frechet.test_numbers]\ntwo = numbers_plugin:TWO\ntext = numbers_plugin:TEXT\nbroken = absent_module:X\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_registered_entries_follow_the_built_in_ones(registry):
    registry.register("two", 2)
    assert dict(registry) == {"one": 1, "two": 2}
    assert len(registry) == 2


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("one", 3, "'one' is already registered"),
        ("", 3, "'' is not a valid number name"),
        ("a b", 3, "'a b'"),
        ("x", "3", "str; expected int"),
    ],
)
def test_invalid_entries_are_rejected_with_a_reason(registry, name, entry, message):
    with pytest.raises(RequestError, match=message):
        registry.register(name, entry)
    assert dict(registry) == {"one": 1}


def test_entry_points_are_listed_and_loaded_on_lookup(registry, plugins):
    assert list(registry) == ["one", "broken", "text", "two"]
    assert registry["two"] == 2
    assert "numbers_plugin" in sys.modules


def test_a_broken_plugin_costs_nothing_until_it_is_looked_up(registry, plugins):
    assert registry["one"] == 1
    with pytest.raises(
        RequestError, match=r"'broken' .*absent_module:X.* cannot be loaded: ModuleNotFoundError.*uninstall"
    ):
        registry["broken"]
    with pytest.raises(RequestError, match="'text' is of type str; expected int"):
        registry["text"]


def test_a_plugin_name_cannot_be_registered_again(registry, plugins):
    with pytest.raises(RequestError, match="'two' is already registered"):
        registry.register("two", 3)


def test_an_unknown_name_is_a_key_error(registry):
    with pytest.raises(KeyError):
        registry["three"]
    assert "three" not in registry


def test_importing_the_table_does_not_import_plugins(plugins, tmp_path):
    probe = "import sys; from frechet._internal.registry import Registry; r = Registry('n', int, 'frechet.test_numbers', {'one': 1}); list(r); print('numbers_plugin' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "False"

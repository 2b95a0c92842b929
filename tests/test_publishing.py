"""What a release consists of next to the package: action, recipe and citation."""

import importlib.util
import io
import re
import tarfile

import numpy as np
import pytest
from helpers import ROOT

import frechet

yaml = pytest.importorskip("yaml")


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (0.5, 1)])
def test_the_action_fails_only_if_a_run_is_significantly_worse(tmp_path, monkeypatch, capsys, shift, code):
    random = np.random.default_rng(0)
    reference = random.standard_normal((500, 4))
    for name, each in (("before", 0.0), ("now", shift)):
        scores = frechet.score(random.standard_normal((500, 4)) + each, reference, features=True)
        (tmp_path / f"{name}.json").write_text(scores.to_json())
    monkeypatch.setattr("sys.argv", ["check", str(tmp_path / "before.json"), str(tmp_path / "now.json")])
    assert load_script("check_regression").main() == code
    assert "before" in capsys.readouterr().out


def test_the_action_names_scripts_and_inputs_that_exist():
    text = (ROOT / "action.yml").read_text()
    action = yaml.safe_load(text)
    assert action["runs"]["using"] == "composite"
    assert set(re.findall(r"inputs\.(\w+)", text)) <= set(action["inputs"])
    for script in re.findall(r"scripts/\w+\.py", text):
        assert (ROOT / script).is_file()


def test_the_conda_recipe_has_the_requirements_and_hash_of_the_source_distribution(tmp_path):
    metadata = b"Version: 1.2.3\nRequires-Dist: numpy>=2.1\nRequires-Dist: torch>=2.4; extra == 'torch'\n"
    with tarfile.open(tmp_path / "frechet-1.2.3.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("frechet-1.2.3/PKG-INFO")
        member.size = len(metadata)
        tar.addfile(member, io.BytesIO(metadata))
    text = load_script("conda_recipe").render_recipe(tmp_path / "frechet-1.2.3.tar.gz")
    recipe = yaml.safe_load(text)
    assert recipe["context"]["version"] == "1.2.3"
    assert re.fullmatch("[0-9a-f]{64}", recipe["source"]["sha256"])
    assert recipe["requirements"]["run"][1:] == ["numpy >=2.1"]


def test_citation_and_readme_name_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == frechet.__version__
    assert f"version = {{{frechet.__version__}}}" in (ROOT / "README.md").read_text()

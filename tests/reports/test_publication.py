"""The sentence for a paper and the metadata of a model card."""

from pathlib import Path

import numpy as np
import pytest
from helpers import run

import frechet
from frechet.reports.publication import format_citation, format_model_card


@pytest.fixture
def rows():
    return np.random.default_rng(0).standard_normal((2, 100, 4)).astype(np.float32)


def test_the_citation_names_values_numbers_software_and_papers(rows):
    scores = frechet.score(*rows, features=True, metrics="fd,kid")
    sentence, *rest = format_citation(scores).splitlines()
    low, high = scores["fd"].interval_95
    for part in (f"{scores['fd'].value:.4g}", f"{low:.4g} to {high:.4g}", frechet.__version__, "100 generated images"):
        assert part in sentence
    assert any("1706.08500" in line for line in rest)
    assert any("1801.01401" in line for line in rest)
    assert "@software{frechet," in rest
    entry = "\n".join(rest[rest.index("@software{frechet,") :])
    assert f"```bibtex\n{entry}\n```" in (Path(__file__).parents[2] / "README.md").read_text()


def test_a_citation_without_known_numbers_of_images_does_not_mention_images(rows, tmp_path):
    for name, each in zip("ab", rows, strict=True):
        np.savez(tmp_path / f"{name}.npz", mu=each.mean(0), sigma=np.cov(each, rowvar=False))
    scores = frechet.score(tmp_path / "a.npz", tmp_path / "b.npz", features=True)
    assert " from" not in format_citation(scores).splitlines()[0]


def test_the_model_card_is_read_by_the_hub(rows):
    yaml = pytest.importorskip("yaml")
    scores = frechet.score(*rows, features=True, metrics="fd,kid")
    text = format_model_card(scores, 'my "model": a', "data/reference: b")
    (model,) = yaml.safe_load(text.strip("-\n"))["model-index"]
    (result,) = model["results"]
    assert (model["name"], result["dataset"]["name"]) == ('my "model": a', "data/reference: b")
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        name: score.value for name, score in scores.items()
    }
    cards = pytest.importorskip("huggingface_hub")
    (found, *_) = cards.ModelCard(text).data.eval_results
    assert (found.metric_type, found.metric_value) == ("fd", scores["fd"].value)


def test_both_are_available_on_the_command_line(rows, tmp_path):
    for name, features in zip("ab", rows, strict=True):
        np.save(tmp_path / f"{name}.npy", features)
    card = tmp_path / "card.md"
    inputs = (str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), "--features")
    code, out, _ = run("score", *inputs, "--cite", "--model-card", str(card))
    assert code == 0
    assert "@software{frechet," in out
    assert card.read_text().startswith("---\nmodel-index:")
    code, _, err = run("score", *inputs, "--output", str(card), "--model-card", str(card), "--force")
    assert code == 2
    assert "--output and --model-card both name" in err

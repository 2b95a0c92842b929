"""What people type, and how the program responds: on the command line and in Python."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers import make_image_folder, run
from PIL import Image

import frechet
from frechet.execution.settings import Settings

HINT = "Did you mean: "
UINT8 = np.zeros((4, 8, 8, 3), np.uint8)


@pytest.fixture
def inputs(tmp_path):
    """x.npy and y.npy: features (60, 4); images/: a folder; all in the home folder."""
    for seed, name in enumerate("xy"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(seed).standard_normal((60, 4)).astype(np.float32))
    make_image_folder(tmp_path / "images", 3, size=(8, 8))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "code", "response"),
    [
        # accepted
        ("score X Y --features --metrics fid", 0, ["FD (unknown features", "fid is defined on Inception features"]),
        ("score X Y --features --metrics FD,Kid", 0, ["FD ", "KID ", "unknown features, d = "]),
        ("score X Y --features --json --preprocessing legacy_tensorflow", 0, ['"preprocessing": "tensorflow"']),
        ("score X Y --features --json --preprocessing legacy_pytorch", 0, ['"preprocessing": "pytorch-fid"']),
        ("score X Y --features --json --preprocessing clean-fid", 0, ['"preprocessing": "clean"']),
        ("score X Y --features --json --preprocessing torch-fidelity", 0, ['"preprocessing": "tensorflow"']),
        ("--json score X Y --features", 0, ['"schema": 2']),
        ("--features --metrics fd score X Y", 0, ["FD (unknown"]),
        ("--all cache prune --help", 0, ["frechet cache prune"]),
        ("score ~/x.npy ~/y.npy --features --output=~/run.json", 0, ["FD (unknown"]),
        # rejected, with the nearest name
        ("scroe X Y", 2, ["scroe is not a command", f"{HINT}frechet score X Y?"]),
        ("fid X Y", 2, ["fid is not a command", "Choose from score"]),
        ("IMAGES X --json", 2, [f"{HINT}frechet score IMAGES X --json?"]),
        ("s3://bucket/images X", 2, [f"{HINT}frechet score s3://bucket/images X?"]),
        ("--json X Y", 2, ["no command is given", "frechet score GENERATED REFERENCE --json"]),
        ("score X Y --features --metrics fidd", 2, ["unknown metric 'fidd' (did you mean fid?)"]),
        ("score X Y --features --metrics Precison", 2, ["did you mean precision?"]),
        (
            "score X Y --extractor Incepton",
            2,
            ["unknown extractor 'Incepton' (did you mean inception?); choose from inception,"],
        ),
        (
            "score X Y --preprocessing tensorflw",
            2,
            ["unknown preprocessing 'tensorflw' (did you mean tensorflow?); choose from"],
        ),
        ("score X Y --reference-preprocessing Claen", 2, ["did you mean clean?"]),
        ("score X Y --extracter inception", 2, ["--extracter", "--extractor"]),
        ("score X Y --mode clean", 2, ["--mode is an option of clean-fid", "--preprocessing clean"]),
        ("stats NEW IMAGES", 2, ["the arguments seem to be swapped", "frechet stats IMAGES NEW"]),
        ("weights fetch inceptoin", 2, ["did you mean inception?"]),
        ("compare RUN --format latx", 2, ["did you mean latex?"]),
    ],
)
def test_response_to_what_people_type(inputs, typed, code, response):
    paths = {name.upper(): str(inputs / f"{name}.npy") for name in "xy"}
    paths |= {"IMAGES": str(inputs / "images"), "NEW": str(inputs / "new.npz"), "RUN": str(inputs / "run.json")}

    def fill(text):
        for name, path in paths.items():
            text = text.replace(name, path)
        return text

    found, out, err = run(*map(fill, typed.split()), HOME=str(inputs), COLUMNS="1000")
    assert found == code, err
    assert code == 0 or out == ""
    shown = " ".join((out + err).split())
    for words in response:
        assert fill(words) in shown
    assert "Traceback" not in err


def test_fid_of_other_features_is_one_score_with_one_warning(inputs):
    found = frechet.score(inputs / "x.npy", inputs / "y.npy", features=True, metrics=["FID", "kid", "fd"])
    assert list(found) == ["fd", "kid"]
    assert found["fid"] is found["FID"] is found["fd"]
    assert found["fd"].label == "FD (unknown features, d = 4)"
    assert sum("fid is defined on Inception" in warning for warning in found["fd"].warnings) == 1
    by_name = [function(inputs / "x.npy", inputs / "y.npy", features=True) for function in (frechet.fid, frechet.fd)]
    assert [score.value for score in by_name] == [found["fd"].value] * 2
    assert [len([each for each in score.warnings if "Inception" in each]) for score in by_name] == [1, 0]


def test_extractor_and_preprocessing_are_taken_from_the_statistics(inputs, toy_options):
    folder, weights = inputs / "images", toy_options["weights"]
    frechet.collect(folder, preprocessing="clean", **toy_options).save(inputs / "reference.npz")
    score = frechet.fd(folder, inputs / "reference.npz", weights=weights)
    assert (score.provenance["extractor"], score.provenance["preprocessing"]) == ("toy-name", "clean")
    assert score.value == pytest.approx(0, abs=1e-6)
    code, out, _ = run("score", folder, inputs / "reference.npz", "--weights", weights)
    assert code == 0
    assert "toy-name, layer 5, preprocessing clean" in out
    for options, words in (
        ({"extractor": "inception"}, "--extractor toy-name"),
        ({"preprocessing": "pytorch-fid", **toy_options}, "preprocessing"),
    ):
        with pytest.raises(frechet.RequestError, match=words):
            frechet.score(folder, inputs / "reference.npz", **options)


def test_names_of_other_tools_are_settings():
    for name, meant in (("legacy_pytorch", "pytorch-fid"), ("CLEAN", "clean"), ("inception-v3-compat", "tensorflow")):
        assert Settings(preprocessing=name).preprocessing == meant


def tensor(values):
    torch = pytest.importorskip("torch")
    return torch.as_tensor(values)


def floats(low, high):
    return np.linspace(low, high, UINT8.size).reshape(UINT8.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: UINT8.transpose(0, 3, 1, 2), "x.transpose(0, 2, 3, 1)"),
        (lambda: [image.transpose(2, 0, 1) for image in UINT8], "x.transpose(1, 2, 0)"),
        (lambda: tensor(UINT8), "x.permute(2, 0, 1)"),
        (lambda: UINT8.astype(np.int64), "If all values are in 0..255: x.astype('uint8')"),
        (lambda: UINT8.astype(np.uint16), "(x // 257).astype('uint8')"),
        (lambda: UINT8.astype(bool), "x.astype('uint8') * 255"),
        (lambda: floats(0, 1), "The values are in [0, 1]: (x * 255).round().astype('uint8')"),
        (lambda: floats(0, 255), "The values are in [0, 255]: x.round().astype('uint8')"),
        (lambda: floats(-1, 1), "The values are in [-1, 1]: ((x + 1) * 127.5).round().astype('uint8')"),
        (lambda: floats(-2.1, 2.6), "undo the normalisation first"),
        (lambda: floats(0, 1).transpose(0, 3, 1, 2), "x.transpose(0, 2, 3, 1). The values are in [0, 1]: (x * 255)"),
        (lambda: tensor(floats(-1, 1).transpose(0, 3, 1, 2)), "((x + 1) * 127.5).round().byte()"),
        (lambda: ["a.png", "b.png"], "[PIL.Image.open(path).convert('RGB') for path in paths]"),
        (lambda: (Path("a.png"), Path("b.png")), "a tuple of paths, the first: a.png"),
        (lambda: Image.new("RGB", (8, 8)), "A single image has no distribution"),
        (lambda: b"PNG", "PIL.Image.open(io.BytesIO(data))"),
        (lambda: {"train": UINT8}, "Pass one of its values, e.g. images['train']"),
        (lambda: 7, "got int; expected a path"),
    ],
)
def test_advice_for_objects_that_are_not_images(make, advice):
    with pytest.raises(frechet.FrechetError) as caught:
        frechet.collect(make(), extractor="efficientnet-lite0")
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [("mode", "preprocessing"), ("num_workers", "workers"), ("input2", "reference"), ("extracter", "extractor")],
)
def test_unknown_keywords_name_the_right_one(keyword, meant):
    with pytest.raises(TypeError, match=rf"frechet\.fid\(\) .*'{keyword}'; did you mean '{meant}'\?"):
        frechet.fid("a", "b", **{keyword: 1})


@pytest.mark.parametrize(
    ("name", "meant"),
    [("compute_fid", "fid"), ("calculate_metrics", "score"), ("Score_", "score"), ("statistic", "Statistics")],
)
def test_unknown_functions_name_the_right_one(name, meant):
    with pytest.raises(AttributeError, match=rf"'{name}'; did you mean frechet\.(?i:{meant})\?"):
        getattr(frechet, name)
    assert not hasattr(frechet, "__wrapped__")


def test_home_is_expanded_everywhere(inputs, monkeypatch):
    monkeypatch.setenv("HOME", str(inputs))
    frechet.collect("~/x.npy", features=True).save("~/s.npz")
    assert frechet.read_statistics("~/s.npz").n == 60
    assert frechet.score(Path("~/x.npy"), "~/s.npz", features=True)["fd"].value == pytest.approx(0, abs=1e-9)
    assert Settings(work_dir="~/work", weights="~/w.pth").work_dir == os.path.join(inputs, "work")
    run("score", "~/x.npy", "~/y.npy", "--features", "--output=~/run.json")
    assert json.loads((inputs / "run.json").read_text())["schema"] == 2

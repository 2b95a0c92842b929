"""Every metric against every kind of reference: each is computed from what it needs, or the reason why not is true."""

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_inception import LAYERS, SIZE, project
from helpers import run

import frechet
from frechet.errors import MismatchError, RequestError
from frechet.metrics import METRICS
from frechet.statistics.npz_metadata import METADATA_KEY

# what each metric needs of the reference; by the papers, not by the table
NEEDS = {
    "is": set(),
    "is-infinity": set(),
    "vendi": set(),
    "fid": {"moments"},
    "fid-infinity": {"moments"},
    "sfid": {"spatial"},
    "rfid": {"moments", "pairs"},
    "kid": {"features"},
    "precision": {"features"},
    "recall": {"features"},
    "density": {"features"},
    "coverage": {"features"},
    "realism": {"features"},
    "mifid": {"features"},
    "mmd": {"features"},
    "mind": {"features"},
    "authpct": {"features"},
    "ct": {"features"},
    "fls": {"features"},
    "fd": {"moments"},
    "fd-infinity": {"moments"},
    "fd-dinov2": {"pixels"},
    "fd-clip": {"pixels"},
    **{key: {"pixels"} for key in ("fd-convnextv2", "fd-dinov2-256", "fd-mae", "fd-siglip2", "fd-clip-256")},
    "cmmd": {"pixels"},
    "psnr": {"pairs"},
    "ssim": {"pairs"},
    "lpips": {"pairs"},
    "ppl": {"a generator"},
}
PROVIDES = {
    "images": {"moments", "spatial", "features", "pixels"},
    "moments": {"moments"},
    "moments of TTUR's names": {"moments"},
    "ADM batch": {"moments", "spatial", "features"},
    "ADM batch without images": {"moments", "spatial"},
    "ADM batch without spatial moments": {"moments", "spatial", "features"},  # computed from its images
    "own statistics of all images": {"moments", "features"},
    "own statistics with a sample of rows": {"moments"},
    "moments and images": {"moments", "spatial", "features"},
    "no reference": set(),
}
WORDS = {  # of the reason, if this is what is missing
    "moments": ("no reference is given",),
    "spatial": ("spatial layer", "no reference is given"),
    "features": ("features of every image", "no reference is given"),
    "pairs": ("reconstructions", "paired images require", "compares pixels, but", "no reference is given"),
    "pixels": ("dimensions", "features of every image", "computed with inception", "no reference is given"),
    "a generator": ("needs a generator",),
}


def make_images(n, seed):
    pixels = np.random.default_rng(seed).integers(0, 200, (n, SIZE, SIZE, 3))
    return np.minimum(pixels + 3 * seed, 255).astype(np.uint8)


GENERATED, REFERENCE, HELD_OUT = make_images(130, 1), make_images(70, 5), make_images(30, 6)


def moments(images, layer="2048", suffix=""):
    x = project(images, layer).astype(np.float64)
    return {f"mu{suffix}": x.mean(0), f"sigma{suffix}": np.cov(x, rowvar=False)}


@pytest.fixture
def references(tmp_path, fake_inception):
    """Keyword arguments of `frechet.score`, by the kind of reference."""
    spatial = moments(REFERENCE, "spatial", "_s")
    ttur = {f"ref_{name}": array for name, array in moments(REFERENCE).items()}
    files = {
        "moments": moments(REFERENCE),
        "moments of TTUR's names": ttur,
        "ADM batch": {**moments(REFERENCE), **spatial, "arr_0": REFERENCE[:30]},
        "ADM batch without images": {**moments(REFERENCE), **spatial},
        "ADM batch without spatial moments": {**moments(REFERENCE), "arr_0": REFERENCE[:30]},
    }
    for name, arrays in files.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    frechet.collect(REFERENCE[:30]).save(tmp_path / "own statistics of all images.npz")
    own = frechet.collect(REFERENCE)
    sampled = replace(own, rows=own.rows[:20], indices=own.indices[:20])
    sampled.save(tmp_path / "own statistics with a sample of rows.npz")
    return {
        "images": {"reference": REFERENCE},
        **{name: {"reference": tmp_path / f"{name}.npz"} for name in PROVIDES if (tmp_path / f"{name}.npz").exists()},
        "moments and images": {"reference": tmp_path / "moments.npz", "reference_images": REFERENCE[:30]},
        "no reference": {},
    }


def assert_reason_is_true(kind, missing, reason, arguments):
    assert any(word in reason for need in missing for word in WORDS[need]), (kind, missing, reason)
    path = arguments.get("reference")
    assert ("no reference is given" in reason) == (path is None and "a generator" not in missing)
    if counts := re.search(r"got (\d+) and (\w+)", reason):
        assert counts.groups() == (str(len(GENERATED)), str(30 if kind in KINDS_OF_30_IMAGES else len(REFERENCE)))
    if not isinstance(path, Path):
        assert not any(word in reason for word in OF_FILES), (kind, reason)
        return
    with np.load(path) as arrays:
        assert_reason_is_true_of(dict(arrays), reason)


OF_FILES = ("contains statistics", "spatial layer", "have 6 dimensions", "computed with", "does not record")
KINDS_OF_30_IMAGES = (
    "own statistics of all images",
    "moments and images",
    *(kind for kind in PROVIDES if "ADM" in kind),
)


def assert_reason_is_true_of(arrays, reason):
    """Check what a reason claims about the arrays of a statistics file."""
    if "features of every image" in reason or "compares pixels, but" in reason:
        assert "arr_0" not in arrays
    if "features of every image" in reason:
        assert "rows" not in arrays or len(arrays["rows"]) == 20
    if "spatial layer" in reason:
        assert "mu_s" not in arrays
    if found := re.search(r"have (\d+) dimensions; .* has (\d+) features", reason):
        (mean,) = (arrays[key] for key in ("mu", "ref_mu") if key in arrays)
        assert (len(mean), 9) == tuple(map(int, found.groups()))
    if found := re.search(r"was computed with ([\w-]+), but this run uses ([\w-]+)", reason):
        assert found[1] in str(arrays[METADATA_KEY])
        assert found[1] != found[2]
    if "does not record its number of images" in reason:
        assert METADATA_KEY not in arrays


def score_or_reason(metric, arguments):
    try:
        held_out = HELD_OUT if METRICS[metric].uses_held_out else None
        return frechet.score(GENERATED, metrics=metric, held_out=held_out, interval="none", **arguments), None
    except RequestError as error:
        return None, str(error)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PROVIDES)
def test_each_metric_is_computed_or_the_reason_is_true(kind, references):
    arguments = references[kind]
    for metric in METRICS:
        missing = NEEDS[metric] - PROVIDES[kind]
        scores, reason = score_or_reason(metric, arguments)
        if missing:
            assert not scores, f"{metric} was computed against {kind}"
            assert_reason_is_true(kind, missing, reason, arguments)
        else:
            assert scores, f"{metric} against {kind}: {reason}"
            assert np.isfinite(scores[metric].value)


@pytest.mark.slow
def test_metrics_without_a_reference_do_not_depend_on_it(references):
    for metric in ("is", "vendi", "is-infinity"):
        values = {
            frechet.score(GENERATED, metrics=metric, interval="none", **arguments)[metric].value
            for arguments in references.values()
            if "reference_images" not in arguments
        }
        assert len(values) == 1


def test_a_reference_that_no_metric_uses_is_not_run(references, extracted_counts):
    frechet.score(GENERATED, REFERENCE, metrics=["is", "vendi"])
    assert extracted_counts == [130]


def adm_precision_recall(x, y, k=3):
    """ADM's evaluator: squared distances, radius of the k-th neighbour, closed balls."""
    distances = {}
    for name, a, b in (("xx", x, x), ("yy", y, y), ("xy", x, y)):
        distances[name] = ((a[:, None].astype(float) - b[None]) ** 2).sum(-1)
    radii_x, radii_y = (np.sort(distances[name], axis=1)[:, k] for name in ("xx", "yy"))
    return (distances["xy"] <= radii_y).any(1).mean(), (distances["xy"] <= radii_x[:, None]).any(0).mean()


def adm_inception_score(logits, split_size=5000):
    scores = []
    for start in range(0, len(logits), split_size):
        part = logits[start : start + split_size].astype(float)
        part = np.exp(part - part.max(1, keepdims=True))
        part /= part.sum(1, keepdims=True)
        divergence = part * (np.log(part) - np.log(part.mean(0, keepdims=True)))
        scores.append(np.exp(divergence.sum(1).mean()))
    return np.mean(scores)


def frechet_by_sqrtm(p, q):
    from scipy.linalg import sqrtm

    (mu1, s1), (mu2, s2) = p.values(), q.values()
    return ((mu1 - mu2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(sqrtm(s1 @ s2)).real


@pytest.mark.slow
def test_adms_five_numbers_come_from_one_command(references, tmp_path):
    """As single runs, and as the arithmetic of ADM's evaluator on the same features."""
    np.savez(tmp_path / "samples.npz", arr_0=GENERATED)
    path = references["ADM batch"]["reference"]
    metrics = ["fid", "sfid", "is@adm", "precision@adm", "recall@adm"]
    code, out, err = run("score", tmp_path / "samples.npz", path, "--metrics", ",".join(metrics), "--json")
    assert code == 0, err
    values = {name: score["value"] for name, score in json.loads(out)["scores"].items()}
    assert list(values) == metrics
    singles = {name: frechet.score(GENERATED, path, metrics=name, interval="none")[name].value for name in metrics}
    x, y = project(GENERATED, "2048"), project(REFERENCE[:30], "2048")
    precision, recall = adm_precision_recall(x, y)
    adm = {
        "fid": frechet_by_sqrtm(moments(GENERATED), moments(REFERENCE)),
        "sfid": frechet_by_sqrtm(moments(GENERATED, "spatial"), moments(REFERENCE, "spatial")),
        "is@adm": adm_inception_score(project(GENERATED, "logits")),
        "precision@adm": precision,
        "recall@adm": recall,
    }
    for name, value in values.items():
        assert value == pytest.approx(singles[name], rel=1e-6)
        assert value == pytest.approx(adm[name], rel=1e-6)


def test_two_adm_batches_give_the_five_numbers(references):
    """The sample batches that ADM published hold statistics and images, too."""
    path = references["ADM batch"]["reference"]
    scores = frechet.score(path, path, metrics="fid,sfid,is@adm,precision@adm,recall@adm", interval="none")
    assert not scores.unavailable
    assert scores["fid"].value == pytest.approx(0, abs=1e-6)
    assert scores["precision@adm"].value == 1
    assert scores["is@adm"].value == pytest.approx(adm_inception_score(project(REFERENCE[:30], "logits")), rel=1e-6)


def test_fid_and_is_against_plain_statistics(references):
    scores = frechet.score(GENERATED, references["moments"]["reference"], metrics="fid,is", interval="none")
    assert set(scores) == {"fid", "is"}
    assert not scores.unavailable


def test_reference_images_replace_those_in_the_file(references):
    path, images = references["ADM batch"]["reference"], REFERENCE[30:]
    scores = frechet.score(GENERATED, path, reference_images=images, metrics="fid,precision", interval="none")
    alone = frechet.score(GENERATED, images, metrics="precision", interval="none")
    assert scores["precision"].value == alone["precision"].value
    assert scores["precision"].n_reference == 40
    assert any("images in memory" in warning and str(path) in warning for warning in scores["precision"].warnings)


def test_features_may_complete_statistics(tmp_path, fake_inception):
    np.savez(tmp_path / "moments.npz", **moments(REFERENCE))
    x, y = project(GENERATED, "2048"), project(REFERENCE, "2048")
    scores = frechet.score(x, tmp_path / "moments.npz", reference_images=y, metrics="kid", features=True)
    expected = frechet.score(x, y, metrics="kid", features=True)
    assert scores["kid"].value == expected["kid"].value


@pytest.mark.parametrize(
    ("reference", "words"),
    [(REFERENCE, ("provides every image", "leave it out")), (None, ("is missing",))],
)
def test_reference_images_need_statistics(reference, words, fake_inception):
    with pytest.raises(RequestError) as caught:
        frechet.score(GENERATED, reference, reference_images=REFERENCE, metrics="fid", interval="none")
    assert all(word in str(caught.value) for word in words)


def test_reference_images_without_images_are_rejected(references):
    path = references["moments"]["reference"]
    with pytest.raises(RequestError, match="statistics without images; expected images or features"):
        frechet.score(GENERATED, path, reference_images=path, metrics="kid")


def test_a_pickle_with_statistics_of_two_networks_serves_both(tmp_path, fake_inception):
    other = project(REFERENCE, "9").astype(float)
    content = {
        "num_images": 70,
        "fid": moments(REFERENCE),
        "fd_dinov2": {"mu": other.mean(0), "sigma": np.cov(other, rowvar=False)},
    }
    (tmp_path / "ref.pkl").write_bytes(pickle.dumps(content))
    scores = frechet.score(GENERATED, tmp_path / "ref.pkl", metrics="fid,fd-dinov2", interval="none")
    expected = frechet.score(GENERATED, REFERENCE, metrics="fid,fd-dinov2", interval="none")
    assert set(scores) == {"fid", "fd-dinov2"}, scores.unavailable
    for name in expected:
        assert scores[name].value == pytest.approx(expected[name].value, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own", "of another tool"])
def test_images_are_scored_at_the_layer_of_a_statistics_file(kind, tmp_path, fake_inception):
    path = tmp_path / "logits.npz"
    if kind == "own":
        frechet.collect(REFERENCE, dims=LAYERS["logits"]).save(path)
    else:
        np.savez(path, **moments(REFERENCE, "logits"))
    expected = frechet.fid(GENERATED, REFERENCE, dims=LAYERS["logits"], interval="none")
    for extractor in ({}, {"extractor": "inception"}):
        found = frechet.fid(GENERATED, path, interval="none", **extractor)
        assert found.value == pytest.approx(expected.value, rel=1e-6)
        assert (found.label, found.provenance["layer"]) == (expected.label, "logits")
    diagnosis = frechet.diagnose(GENERATED, path, claimed=f"{found.value:.6g}")
    assert diagnosis.baseline.verdict == "match"
    with pytest.raises(MismatchError, match=r"have 5 dimensions; .* Pass --dims 5 \(dims=\)"):
        frechet.fid(GENERATED, path, dims=LAYERS["2048"])


def test_a_layer_that_the_extractor_of_a_statistics_file_lacks_names_the_file(tmp_path, fake_inception):
    frechet.collect(REFERENCE, extractor="efficientnet-lite0").save(tmp_path / "other.npz")
    with pytest.raises(MismatchError) as caught:
        frechet.fid(GENERATED, tmp_path / "other.npz", dims=64)
    words = ("--dims (dims=) is 64", "efficientnet-lite0, which is that of", "other.npz", "expected 9", "--extractor")
    assert all(word in str(caught.value) for word in words), caught.value


def half_precision_distances(a, b):
    """Squared distances as ADM's evaluator computes them: every array is float16."""
    a, b = a.astype(np.float16), b.astype(np.float16)
    squares = [(x.astype(np.float32) ** 2).sum(1).astype(np.float16) for x in (a, b)]
    products = (a.astype(np.float32) @ b.astype(np.float32).T).astype(np.float16)
    return (squares[0][:, None] - 2 * products + squares[1][None]).astype(np.float32)


@pytest.mark.slow
def test_float16_changes_adms_precision_and_recall_by_less_than_a_hundredth():
    random = np.random.default_rng(0)
    mix = random.standard_normal((64, 512)).astype(np.float32) / 16
    x, y = (
        np.maximum(random.normal(0, scale, (1500, 64)) @ mix + random.normal(0, 0.15, (1500, 512)), 0).astype(
            np.float32
        )
        for scale in (1, 1.05)
    )
    radii_x, radii_y = (np.sort(half_precision_distances(z, z), axis=1)[:, 3] for z in (x, y))
    between = half_precision_distances(x, y)
    expected = (between <= radii_y).any(1).mean(), (between <= radii_x[:, None]).any(0).mean()
    scores = frechet.score(x, y, metrics="precision@adm,recall@adm", features=True, interval="none")
    found = scores["precision@adm"].value, scores["recall@adm"].value
    assert found == pytest.approx(expected, abs=0.01)
    assert all(0.1 < value < 0.95 for value in found)  # the values depend on distances
    assert found == pytest.approx(adm_precision_recall_of(x, y), abs=1e-3)


def adm_precision_recall_of(x, y):
    """The same in float64, without (n, m, d) arrays."""
    x, y = x.astype(float), y.astype(float)

    def distances(a, b):
        return (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)[None]

    radii_x, radii_y = (np.sort(distances(z, z), axis=1)[:, 3] for z in (x, y))
    between = distances(x, y)
    return (between <= radii_y).any(1).mean(), (between <= radii_x[:, None]).any(0).mean()

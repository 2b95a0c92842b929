"""Protocols: each runs on data of its format, names every deviation, and is recorded. Counts are reduced for the tests."""

import html
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_inception import SIZE, project
from helpers import ROOT, run
from PIL import Image

import frechet
from frechet._internal.download import compute_sha256
from frechet.errors import RequestError, WeightsError
from frechet.evaluation.protocol_checks import iter_option_deviations, select_measurements
from frechet.evaluation.protocol_run import _select_metrics
from frechet.evaluation.request import ScoreRequest
from frechet.execution.settings import Settings
from frechet.features.registry import EXTRACTORS
from frechet.features.spec import FeatureSpec
from frechet.features.timm_model import TimmModel
from frechet.metrics import METRICS
from frechet.networks import inception
from frechet.preprocessing.crop import CROPS, Crop
from frechet.preprocessing.registry import PREPROCESSINGS
from frechet.protocols import references, registry
from frechet.protocols.references_table import REFERENCES
from frechet.protocols.registry import PROTOCOLS, find_protocol
from frechet.reports.publication import format_citation
from frechet.reports.text import format_scores

N = 24


def make_pixels(n=N, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)


@pytest.fixture
def small(monkeypatch, fake_inception, tmp_path):
    """Every protocol with 24 images of 4 x 4 pixels in two classes, and its reference as a local file; return a maker of arguments."""
    for name, protocol in PROTOCOLS.items():
        changes = {"n_generated": N, "n_reference": protocol.n_reference and N}
        changes |= {"generated_size": protocol.generated_size and SIZE, "crop_size": protocol.crop_size and SIZE}
        changes |= {"images_per_class": protocol.images_per_class and N // 2}
        if name == "rfid-imagenet-256":  # SSIM and LPIPS need larger images
            changes["measurements"] = (replace(protocol.measurements[0], metrics=("rfid", "psnr")),)
        monkeypatch.setitem(PROTOCOLS, name, replace(protocol, **changes))
    monkeypatch.setattr(TimmModel, "check", lambda _: "the toy network")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FRECHET_WEIGHTS", raising=False)
    monkeypatch.setattr(references, "find_reference", lambda name: replace(REFERENCES[name], sha256=None))
    monkeypatch.setattr("frechet.evaluation.protocol_checks.find_reference", references.find_reference)
    return lambda name: make_data(tmp_path / name, PROTOCOLS[name])


def make_data(folder, protocol):
    """Write data in the format of a protocol; return the arguments of `frechet.score`."""
    folder.mkdir(exist_ok=True)
    pixels, real = make_pixels(), make_pixels(seed=1)
    if protocol.order == "paired" or protocol.per_class or protocol.measurements[0].reference is None:
        for side, images in (("generated", pixels), ("reference", real)):
            size = 3 * SIZE if side == "reference" and protocol.reference_crop else SIZE
            for index, image in enumerate(images):
                path = folder / side / f"class{index % 2}" / f"{index:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).resize((size, size + (size > SIZE))).save(path)
        return {"generated": folder / "generated", "reference": folder / "reference"}
    np.savez(folder / "samples.npz", arr_0=pixels, arr_1=np.arange(N) % 2)
    if len(protocol.measurements) > 1:
        import pickle

        features = {each.extractor: project(real, "2048") for each in protocol.measurements[:1]}
        content = {
            REFERENCES[each.reference].url.partition("#")[2]: to_moments(
                features.get(each.extractor, project(real, "9")).astype(float)
            )
            for each in protocol.measurements
        }
        content["num_images"] = N
        (folder / "reference.pkl").write_bytes(pickle.dumps(content))
        return {"generated": folder / "samples.npz", "reference": folder / "reference.pkl"}
    layers = {"": "2048", "_s": "spatial"} if "sfid" in protocol.metrics else {"": "2048"}
    arrays = {
        f"{key}{suffix}": value
        for suffix, layer in layers.items()
        for key, value in to_moments(project(real, layer).astype(float)).items()
    }
    np.savez(folder / "reference.npz", **arrays, **({"arr_0": real} if "sfid" in protocol.metrics else {}))
    return {"generated": folder / "samples.npz", "reference": folder / "reference.npz"}


def to_moments(x):
    return {"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_protocol_runs_on_data_of_its_format(small, name):
    arguments = small(name)
    scores = frechet.score(**arguments, protocol=name, interval="none")
    protocol = PROTOCOLS[name]
    assert tuple(scores) == protocol.metrics
    assert not scores.unavailable
    assert {score.protocol for score in scores.values()} == {name}
    assert scores.protocol.deviations == ()
    assert scores.protocol.not_computed == protocol.not_computed
    assert set(protocol.unverified) <= set(scores.protocol.unverified)
    assert f"protocol {name}" in scores.protocol.sentence
    assert f"{N} generated images" in scores.protocol.sentence
    for measurement in protocol.measurements:
        for metric in measurement.metrics:
            provenance = scores[metric].provenance
            if provenance["extractor"] == "pixels":
                continue
            assert (provenance["extractor"], provenance["preprocessing"]) == (
                measurement.extractor,
                measurement.preprocessing,
            )
            assert provenance["generated"]["crop"] == (
                f"{protocol.generated_crop}({SIZE})" if protocol.generated_crop else None
            )
            if protocol.reference_crop and scores[metric].uses_reference:
                assert provenance["reference"]["crop"] == f"{protocol.reference_crop}({SIZE})"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_protocol_rejects_deviations_and_names_each(small, name, tmp_path):
    arguments, protocol = small(name), PROTOCOLS[name]
    fewer = tmp_path / "fewer.npz"
    np.savez(fewer, arr_0=make_pixels(N - 1, 2 * SIZE), arr_1=np.zeros(N - 1, int))
    deviations = {
        "generated": (fewer, f"{N - 1} generated images (expected {N})"),
        "metrics": ("kid", f"metrics kid (expected {','.join(protocol.metrics)})"),
        "preprocessing": (
            "torchmetrics",
            f"preprocessing torchmetrics (expected {protocol.measurements[0].preprocessing})",
        ),
        "precision": ("bfloat16", "precision bfloat16 (expected float32)"),
        "num_images": (20, "num_images 20 (expected all images)"),
        "crop": ("stretch", "generated crop stretch (expected"),
    }
    expected = [text for _, text in deviations.values()]
    if protocol.generated_size:
        expected.append(f"generated images of {2 * SIZE} x {2 * SIZE} pixels (expected {SIZE} x {SIZE})")
    if protocol.images_per_class:
        expected.append(f"{N - 1} images of class 0 (expected {N // 2} of each class)")
    changed = {**arguments, **{key: value for key, (value, _) in deviations.items()}, "size": SIZE}
    with pytest.raises(RequestError) as caught:
        frechet.score(**changed, protocol=name)
    for text in (*expected, f"protocol {name}", "--relax"):
        assert text in str(caught.value)
    for key, (value, text) in deviations.items():
        changed = {**arguments, key: value, **({"size": SIZE} if key == "crop" else {})}
        with pytest.raises(RequestError) as caught:
            frechet.score(**changed, protocol=name)
        assert text in str(caught.value)


def test_a_relaxed_score_is_marked(small):
    arguments = small("adm-imagenet-256")
    scores = frechet.score(
        **arguments, protocol="adm-imagenet-256", preprocessing="clean", num_images=20, relax=True, interval="none"
    )
    assert scores["fid"].protocol == "adm-imagenet-256 (relaxed)"
    assert scores["fid"].provenance["preprocessing"] == "clean"
    found = scores.protocol.deviations
    assert "preprocessing clean (expected tensorflow)" in found
    assert f"20 generated images (expected {N})" in found
    assert all(text in scores.protocol.sentence for text in found)
    content = json.loads(scores.to_json())
    assert content["protocol"]["deviations"] == list(found)
    assert content["scores"]["fid"]["protocol"] == "adm-imagenet-256 (relaxed)"
    qualified = scores.with_scores({key: replace(each, label=f"{each.label} (toy)") for key, each in scores.items()})
    for shown in (scores, qualified):
        text = format_scores(shown)
        assert all(part in text for part in ("adm-imagenet-256 (relaxed)", *found))


def test_values_are_those_of_single_runs(small):
    arguments = small("adm-imagenet-256")
    scores = frechet.score(**arguments, protocol="adm-imagenet-256", interval="none")
    for metric in scores:
        single = frechet.score(**arguments, metrics=metric, preprocessing="tensorflow", interval="none")[metric]
        assert scores[metric].value == pytest.approx(single.value, rel=1e-6)


def test_images_sorted_by_class_are_a_deviation_of_adms_protocol(small, tmp_path):
    arguments = small("adm-imagenet-256")
    np.savez(tmp_path / "sorted.npz", arr_0=make_pixels(), arr_1=np.arange(N) // 12)
    with pytest.raises(RequestError, match="images sorted by class"):
        frechet.score(tmp_path / "sorted.npz", arguments["reference"], protocol="adm-imagenet-256")


def test_sizes_of_all_images_are_checked(small, tmp_path, monkeypatch):
    """One image of another size among those that are not probed before the run."""
    monkeypatch.setattr("frechet.evaluation.protocol_checks._NUM_PROBES", 2)
    arguments = small("coco-30k-gigagan")
    name = "edm-cifar10-32"
    folder = arguments["generated"]
    for index, path in enumerate(sorted(folder.rglob("*.png"))):
        size = SIZE + 1 if index == N - 1 else SIZE
        Image.fromarray(make_pixels(1, size, index)[0]).save(path)
    (folder / "class1").rename(tmp_path / "class1")
    for path in (tmp_path / "class1").iterdir():
        path.rename(folder / path.name)
    with pytest.raises(RequestError, match=r"generated images of 5 x 5 pixels \(expected 4 x 4\)"):
        frechet.score(folder, small(name)["reference"], protocol=name)


def test_pairs_are_checked_by_name(small):
    arguments = small("rfid-imagenet-256")
    path = next(iter(sorted(arguments["generated"].rglob("*.png"))))
    path.rename(path.with_name("000a.png"))
    with pytest.raises(RequestError, match=r"names .*000a.* and .*000.* at the same position"):
        frechet.score(**arguments, protocol="rfid-imagenet-256")


def test_alternatives_of_the_source_are_no_deviations(small):
    arguments = small("rfid-imagenet-256")
    options = {"reference_crop": "torchvision", "size": SIZE, "preprocessing": "pytorch-fid", "interval": "none"}
    scores = frechet.score(**arguments, protocol="rfid-imagenet-256", **options)
    assert scores.protocol.deviations == ()
    assert scores["rfid"].provenance["reference"]["crop"] == f"torchvision({SIZE})"
    assert "pytorch-fid" in scores.protocol.sentence


def test_reconstructions_are_also_compared_pixel_by_pixel(small):
    """rFID of the toy network; PSNR from its definition, with the reference in ADM's crop."""
    arguments = small("rfid-imagenet-256")
    scores = frechet.score(**arguments, protocol="rfid-imagenet-256", interval="none")
    assert list(scores) == ["rfid", "psnr"]
    ratios = []
    for path in sorted(arguments["generated"].rglob("*.png")):
        original = arguments["reference"] / path.relative_to(arguments["generated"])
        cropped = Crop("adm", SIZE).apply(np.asarray(Image.open(original)))
        squares = (np.asarray(Image.open(path)).astype(float) - cropped) ** 2
        ratios.append(10 * np.log10(255**2 / squares.mean()))
    assert scores["psnr"].value == pytest.approx(np.mean(ratios), rel=1e-12)
    assert scores["psnr"].protocol == "rfid-imagenet-256"
    assert "PSNR" in scores.protocol.sentence


def test_a_protocol_names_the_selections_of_metrics_that_it_allows(small, monkeypatch, tmp_path):
    arguments = small("rfid-imagenet-256")
    alone = frechet.score(**arguments, protocol="rfid-imagenet-256", metrics="rfid", interval="none")
    assert (list(alone), alone.protocol.deviations) == (["rfid"], ())
    monkeypatch.setenv("FRECHET_LPIPS_WEIGHTS", str(tmp_path / "nowhere.pth"))
    with pytest.raises(
        RequestError,
        match=r"metrics rfid,lpips \(expected rfid,psnr\); lpips cannot be computed \(expected rfid,psnr or rfid or",
    ):
        frechet.score(**arguments, protocol="rfid-imagenet-256", metrics="rfid,lpips")


def test_statistics_cannot_be_compared_pixel_by_pixel(small, monkeypatch):
    """This is known before any image is read for the other metrics."""
    arguments = small("rfid-imagenet-256")
    options = {"preprocessing": "tensorflow", "interval": "none"}
    reference = frechet.collect(
        arguments["reference"], crop="adm", size=SIZE, design="paired", preprocessing="tensorflow"
    )
    reference = replace(reference, rows=None, indices=None)  # as in a file of many images
    given = {"generated": arguments["generated"], "reference": reference, "protocol": "rfid-imagenet-256", **options}
    assert list(frechet.score(**given, metrics="rfid")) == ["rfid"]
    both = frechet.score(**given, reference_images=arguments["reference"])
    assert both["psnr"].value == frechet.score(**arguments, protocol="rfid-imagenet-256", **options)["psnr"].value
    monkeypatch.setattr("frechet.evaluation.run.evaluate", lambda *_: pytest.fail("computes features"))
    with pytest.raises(
        RequestError, match=r"psnr cannot be computed \(expected rfid,psnr or rfid or .* contains statistics"
    ):
        frechet.score(**given)


def test_other_weights_are_a_deviation(small, monkeypatch):
    load = Settings.load

    def load_other(*arguments):
        loaded = load(*arguments)
        return replace(loaded, spec=replace(loaded.spec, is_official=False, weights="3" * 64))

    monkeypatch.setattr(Settings, "load", load_other)
    with pytest.raises(
        RequestError,
        match=r"weights of inception with the sha256 333333333333\.\.\. .* \(expected the published ones\)",
    ):
        frechet.score(**small("mlperf-sdxl"), protocol="mlperf-sdxl", interval="none")


@pytest.mark.parametrize("source", ["environment", "option"])
def test_other_weights_are_named_with_all_other_deviations(small, monkeypatch, tmp_path, source):
    """They are known before anything is computed, and named once."""
    path = tmp_path / "w.pth"
    path.write_bytes(b"other weights")
    arguments = {**small("mlperf-sdxl"), "protocol": "mlperf-sdxl", "interval": "none", "preprocessing": "clean"}
    if source == "environment":
        monkeypatch.setenv("FRECHET_WEIGHTS", str(path))
    else:
        arguments["weights"] = path
    load = Settings.load

    def load_other(*given):
        loaded = load(*given)
        return replace(loaded, spec=replace(loaded.spec, is_official=False, weights="3" * 64))

    monkeypatch.setattr(Settings, "load", load_other)
    described = f"weights of inception in {path} (expected the published ones)"
    with pytest.raises(RequestError, match="Fix these 2 deviations") as caught:
        frechet.score(**arguments)
    assert described in str(caught.value)
    assert "preprocessing clean" in str(caught.value)
    found = frechet.score(**arguments, relax=True).protocol.deviations
    assert len(found) == 2
    assert described in found


def test_the_published_weights_are_no_deviation_if_they_are_passed(small, monkeypatch, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"the published weights")
    file = replace(inception.WEIGHTS, size=path.stat().st_size, sha256=compute_sha256(path))
    row = EXTRACTORS["inception"]
    monkeypatch.setitem(EXTRACTORS._entries, "inception", replace(row, model=replace(row.model, weights_file=file)))
    scores = frechet.score(**small("mlperf-sdxl"), protocol="mlperf-sdxl", interval="none", weights=path)
    assert scores.protocol.deviations == ()


def test_other_weights_of_lpips_are_a_deviation(monkeypatch):
    """They are loaded before images are read."""
    spec = FeatureSpec(extractor="lpips-alexnet", weights="3" * 64, is_official=False)
    measure = SimpleNamespace(spec=spec)
    row = replace(METRICS["lpips"], load_pair_measure=lambda _device, **_: measure)
    monkeypatch.setitem(METRICS._entries, "lpips", row)
    request = ScoreRequest("a", "b", protocol="rfid-imagenet-256")
    found = list(iter_option_deviations(request, PROTOCOLS["rfid-imagenet-256"]))
    expected = "weights of lpips-alexnet with the sha256 333333333333... of their tensors (expected the published ones)"
    assert expected in found


def test_another_reference_is_a_deviation(small, monkeypatch, tmp_path):
    arguments = small("jit-imagenet-256")
    monkeypatch.setattr("frechet.evaluation.protocol_checks.find_reference", REFERENCES.__getitem__)
    with pytest.raises(RequestError, match="differs from ref:jit-imagenet-256"):
        frechet.score(**arguments, protocol="jit-imagenet-256")
    with pytest.raises(
        RequestError, match=r"the reference .*, which are images \(expected statistics: jit_in256_stats.npz\)"
    ):
        frechet.score(arguments["generated"], make_pixels(seed=3), protocol="jit-imagenet-256")
    statistics = frechet.read_statistics(arguments["reference"])
    known = replace(REFERENCES["jit-imagenet-256"], sha256=None, fingerprint=references.compute_fingerprint(statistics))
    monkeypatch.setattr("frechet.evaluation.protocol_checks.find_reference", lambda _: known)
    assert frechet.score(**arguments, protocol="jit-imagenet-256", interval="none").protocol.unverified == ()


def test_an_unknown_sha256_is_reported_as_not_verified(small):
    scores = frechet.score(**small("mar-imagenet-256"), protocol="mar-imagenet-256", interval="none")
    assert any("adm_in256_stats.npz: no sha256 is published" in text for text in scores.protocol.unverified)


def test_the_named_reference_is_used_if_none_is_passed(small, monkeypatch):
    arguments, asked = small("mar-imagenet-256"), []

    def fetch(name, *_):
        asked.append(name)
        return references.FetchedReference(name=name[4:], reference=REFERENCES[name[4:]], path=arguments["reference"])

    monkeypatch.setattr("frechet.evaluation.addresses.fetch", fetch)
    scores = frechet.score(arguments["generated"], protocol="mar-imagenet-256", interval="none")
    assert set(asked) == {"ref:mar-imagenet-256"}
    assert scores["fid"].provenance["reference"]["label"] == "ref:mar-imagenet-256"


def test_a_missing_reference_is_named(small):
    with pytest.raises(RequestError, match="compares with the ImageNet validation images, and no reference is given"):
        frechet.score(small("rfid-imagenet-256")["generated"], protocol="rfid-imagenet-256")


def test_published_values_acceptance_and_sentence_are_printed(small):
    arguments = small("mlperf-sdxl")
    command = ["score", *arguments.values(), "--protocol", "mlperf-sdxl"]
    code, out, err = run(*command)
    assert code == 0, err
    for text in (
        "protocol",
        "mlperf-sdxl: FID of MLPerf",
        "23.01085758 to 23.95007626",
        "IS NOT within",
        "CLIP score",
        "for a paper",
    ):
        assert text in out
    arguments = small("adm-imagenet-256")
    out = run("score", *arguments.values(), "--protocol", "adm-imagenet-256")[1]
    assert "is@adm 215.837, fid 3.9426, sfid 6.1404, precision@adm 0.8265, recall@adm 0.5309" in out


@pytest.mark.slow
def test_the_citation_names_crops_extractors_and_the_protocol(small):
    scores = frechet.score(**small("coco-30k-gigagan"), protocol="coco-30k-gigagan", interval="none")
    sentence = format_citation(scores).splitlines()[0]
    for part in ("generated", "reference"):
        assert f"{N} {part} images cropped by long-edge({SIZE})" in sentence
    assert sentence.endswith("following protocol coco-30k-gigagan.")
    scores = frechet.score(**small("edm2-img512"), protocol="edm2-img512", num_images=20, relax=True, interval="none")
    sentence = format_citation(scores).splitlines()[0]
    assert sentence.endswith("following protocol edm2-img512 (relaxed).")
    assert all(each.extractor in sentence for each in PROTOCOLS["edm2-img512"].measurements)


@pytest.mark.slow
def test_the_report_shows_the_protocol(small, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = small("cifar10-train")
    code, _, err = run("score", *arguments.values(), "--protocol", "cifar10-train", "--report", tmp_path / "page.html")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    assert "<h3>Protocol</h3>" in page
    assert "11.2368" in page


@pytest.mark.slow
def test_a_report_shows_the_scores_of_every_extractor(small, tmp_path):
    """Diagnostics are those of the first extractor, and the values those of a run without a report."""
    pytest.importorskip("matplotlib")
    arguments = small("fdr6-imagenet-256")
    command = ["score", *arguments.values(), "--protocol", "fdr6-imagenet-256", "--interval", "none", "--json"]
    code, out, err = run(*command, "--report", tmp_path / "page.html")
    assert code == 0, err
    expected = json.loads(run(*command)[1])
    assert json.loads(out) == expected
    page = (tmp_path / "page.html").read_text()
    assert f"{expected['protocol']['mean_fdr']:.4g}, the mean of these distances" in page
    for score in expected["scores"].values():
        assert html.escape(score["label"]) in page
    encoders = [each.extractor for each in PROTOCOLS["fdr6-imagenet-256"].measurements]
    assert f"{', '.join(encoders[1:])} (scores only)" in page
    arguments = small("adm-imagenet-256")
    options = ["--metrics", "fd-dinov2,fid", "--interval", "none", "--json"]
    inputs = [arguments["generated"], arguments["generated"]]
    code, out, err = run("score", *inputs, *options, "--report", tmp_path / "two.html")
    assert code == 0, err
    assert json.loads(out)["scores"] == json.loads(run("score", *inputs, *options)[1])["scores"]


def test_rows_name_things_that_exist():
    for name, protocol in PROTOCOLS.items():
        assert protocol.order in ("any", "unsorted", "paired")
        assert {protocol.generated_crop, protocol.reference_crop} <= {None, *CROPS}
        for each in protocol.measurements:
            assert each.preprocessing in EXTRACTORS[each.extractor].preprocessings, name
            assert each.preprocessing in PREPROCESSINGS
            assert each.reference is None or each.reference in REFERENCES, name
            for metric in each.metrics:
                key, _, preset = metric.partition("@")
                assert not preset or preset in METRICS[key].presets
        for published in protocol.published:
            assert published.values.keys() <= set(protocol.metrics)


def test_the_list_and_the_row_of_a_protocol_are_printed():
    code, out, _ = run("protocols")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(PROTOCOLS)
    assert len(run("protocols", "--markdown")[1].splitlines()) == len(PROTOCOLS) + 2
    out = run("protocols", "rfid-imagenet-256")[1]
    for text in ("50,000 images", "cropped with adm, size 256", "torchvision", "lpips", "0.344"):
        assert text in out
    code, _, err = run("protocols", "adm-imagnet-256")
    assert code == 2
    assert "did you mean adm-imagenet-256?" in err


VALIDATION_FD = (1.68, 56.87, 14.19, 0.04, 0.60, 5.60)  # arXiv:2604.28190, in the order of the protocol's metrics


@pytest.mark.slow
def test_fdr6_is_the_mean_of_six_distances_relative_to_those_of_the_validation_images(small):
    arguments = small("fdr6-imagenet-256")
    scores = frechet.score(**arguments, protocol="fdr6-imagenet-256", interval="none")
    expected = [score.value / validation for score, validation in zip(scores.values(), VALIDATION_FD, strict=True)]
    record = scores.protocol
    assert list(record.fdr.values()) == pytest.approx(expected, rel=1e-12)
    assert record.mean_fdr == pytest.approx(np.mean(expected), rel=1e-12)
    assert record.not_computed == ()
    assert f"FDr-6 {np.mean(expected):.4g}, FID " in record.sentence
    content = json.loads(scores.to_json())
    assert content["protocol"]["mean_fdr"] == record.mean_fdr
    extractors = [
        (content["provenance"] | each.get("provenance", {}))["extractor"] for each in content["scores"].values()
    ]
    assert extractors == [each.extractor for each in PROTOCOLS["fdr6-imagenet-256"].measurements]
    out = run("score", *arguments.values(), "--protocol", "fdr6-imagenet-256", "--interval", "none")[1]
    assert re.search(rf"FDr-6 +{re.escape(f'{np.mean(expected):.4g}')}, the mean", out)


def test_fdr6_names_the_encoders_that_are_missing_before_it_computes_anything(small, monkeypatch):
    arguments, checked = small("fdr6-imagenet-256"), []

    def check(model):
        checked.append(model.architecture)
        if model.architecture.endswith(".mae"):
            raise WeightsError("no weights of MAE")
        return "found"

    monkeypatch.setattr(TimmModel, "check", check)
    loaded = []
    load = Settings.load

    def load_or_fail(settings, *rest):
        loaded.append(settings.extractor)
        if settings.extractor == "mae-vit-l-16-timm":
            raise WeightsError("no weights of MAE")
        return load(settings, *rest)

    monkeypatch.setattr(Settings, "load", load_or_fail)
    with pytest.raises(
        RequestError, match=r"deviates .*: fd-mae cannot be computed \(no weights of MAE\)\. Fix this deviation"
    ):
        frechet.score(**arguments, protocol="fdr6-imagenet-256", interval="none")
    assert (len(checked), loaded) == (5, [])
    scores = frechet.score(**arguments, protocol="fdr6-imagenet-256", interval="none", relax=True)
    assert set(scores.unavailable) == {"fd-mae"}
    assert len(scores.protocol.deviations) == 1
    assert scores.protocol.mean_fdr is None
    assert len(scores.protocol.fdr) == 5
    assert scores.protocol.not_computed[-1].endswith("without fd-mae")
    some = frechet.score(
        **arguments, protocol="fdr6-imagenet-256", interval="none", relax=True, metrics="fd-clip-256,fid"
    )
    assert {key: some[key].value for key in some} == {key: scores[key].value for key in ("fd-clip-256", "fid")}


def test_each_extractor_of_a_protocol_has_its_own_options(small, monkeypatch, tmp_path):
    """The layer, weights and backend of the first extractor are not those of the others; nor is its work directory."""
    arguments, loaded = small("fdr6-imagenet-256"), {}
    load = Settings.load

    def record(settings, *rest):
        loaded[settings.extractor] = settings.backend, settings.precision
        return load(settings, *rest)

    monkeypatch.setattr(Settings, "load", record)
    options = {"backend": "openvino", "work_dir": tmp_path / "work", "interval": "none"}
    scores = frechet.score(**arguments, protocol="fdr6-imagenet-256", **options)
    assert len(scores) == 6
    assert loaded.pop("inception") == ("openvino", "float32")
    assert set(loaded.values()) == {("auto", "bfloat16")}
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"inception", *loaded}


def test_images_are_not_the_reference_of_a_protocol_of_several_extractors(small):
    arguments = small("fdr6-imagenet-256") | {"reference": make_pixels(N, SIZE, 1)}
    with pytest.raises(RequestError, match=r"which are images \(expected statistics: paper_ref_stats\.pkl"):
        frechet.score(**arguments, protocol="fdr6-imagenet-256", interval="none")


def test_options_belong_to_the_first_extractor_that_computes_a_metric():
    protocol = PROTOCOLS["fdr6-imagenet-256"]
    by_name = {each.metrics[0]: each for each in protocol.measurements}
    for names, expected in (
        (None, protocol.measurements),
        (["fd-mae"], (by_name["fd-mae"],)),
        (["fd-mae", "fid"], (by_name["fid"], by_name["fd-mae"])),
        (["fd-mae", "kid"], (by_name["fid"], by_name["fd-mae"])),  # kid is that of the first extractor
    ):
        assert select_measurements(protocol, names) == expected
    assert _select_metrics(by_name["fd-mae"], ["fd-mae", "kid"], protocol, is_first=False) == ("fd-mae",)
    assert _select_metrics(by_name["fid"], ["fd-mae", "kid"], protocol, is_first=True) == ("kid",)


def test_a_protocol_may_name_an_extractor_outside_the_table(tmp_path):
    pytest.importorskip("tomllib", reason="tomllib is new in Python 3.11")
    pytest.importorskip("torch")
    path = tmp_path / "own.toml"
    path.write_text(TOML.replace('"kid"', '"fd"').replace('"fid", ', "") + 'extractor = "incepton"\n')
    with pytest.raises(RequestError, match="unknown extractor 'incepton'"):
        frechet.score(make_pixels(), make_pixels(), protocol=path, interval="none", relax=True)


def test_relax_needs_a_protocol():
    with pytest.raises(RequestError, match=r"--relax \(relax=\) applies to a protocol"):
        frechet.score(make_pixels(), make_pixels(), relax=True)


TOML = """
title = "FID and KID on our birds"
source = "our paper"
metrics = ["fid", "kid"]
preprocessing = "clean"
reference_title = "our training set"
n_generated = 24
reference_crop = "adm"
crop_size = 4
"""


def test_users_define_protocols_in_toml(tmp_path, fake_inception):
    pytest.importorskip("tomllib", reason="tomllib is new in Python 3.11")
    (tmp_path / "birds.toml").write_text(TOML)
    scores = frechet.score(make_pixels(), make_pixels(30, 9, 1), protocol=tmp_path / "birds.toml", interval="none")
    assert set(scores) == {"fid", "kid"}
    assert (scores["fid"].protocol, scores["fid"].provenance["preprocessing"]) == ("birds", "clean")
    assert scores["fid"].provenance["reference"]["crop"] == "adm(4)"
    (tmp_path / "half.toml").write_text('base = "adm-imagenet-64"\nn_generated = 10_000\nmetrics = ["fid"]\n')
    name, protocol = find_protocol(tmp_path / "half.toml")
    assert (name, protocol.n_generated, protocol.generated_size, protocol.metrics) == ("half", 10_000, 64, ("fid",))
    assert protocol.published == ()  # they are not comparable
    assert protocol.measurements[0].reference == "adm-imagenet-64"
    (tmp_path / "fdr.toml").write_text('base = "fdr6-imagenet-256"\nn_generated = 20\n')
    assert find_protocol(tmp_path / "fdr.toml")[1].validation_fd == {}  # those of other images


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "n_generated = 24",
            ("the keys title, source, reference_title, metrics, preprocessing are missing", "base = NAME"),
        ),
        (TOML.replace('preprocessing = "clean"', ""), ("the key preprocessing is missing; expected title, source",)),
        (TOML + "[[published]]\nmodel = 'ours'", ("published has {'model': 'ours'}", "keys model, values, source")),
        (TOML + "published = [3]", ("published has 3", "expected tables")),
        (TOML + "[[published]]\nmodel = 'a'\nsource = 'b'\nvalues = {fid = '3'}", ("published has '3' for fid",)),
        (TOML + "[accepted]\nfid = [8.0]", ("accepted.fid is [8.0]", "lowest and the highest")),
        (TOML.replace('["fid", "kid"]', "[1]"), ("metrics is [1]", "a list of texts")),
        (TOML + "generated_sise = 3", ("key 'generated_sise' is not available in", "(did you mean generated_size?)")),
        (TOML.replace("24", '"24"'), ("n_generated is '24'", "whole number")),
        (TOML.replace("24", "0"), ("n_generated is 0", "at least 1")),
        ('base = "adm-imagenet-63"', ("unknown base 'adm-imagenet-63'", "did you mean adm-imagenet-64?")),
        ('base = "mine.toml"', ("unknown base 'mine.toml'",)),
        (TOML + "validation_fd = 2", ("key 'validation_fd' is not available in",)),
        ("n_generated = " + "9" * 5000, ("cannot be read as TOML", "digits")),
        ("a = " + "[" * 100_000, ("nests its values too deeply",)),
        (TOML + '[accepted]\npreprocessing = "clean"', ("accepted.preprocessing is 'clean'", "expected a list")),
        (TOML + '[alternatives]\nmetrics = [["fid"]]', ("alternatives.metrics is [['fid']]", "separated by commas")),
        ("a = = 3", ("cannot be read as TOML",)),
        (None, ("no such file",)),
    ],
)
def test_wrong_toml_files_are_rejected(tmp_path, text, words):
    pytest.importorskip("tomllib", reason="tomllib is new in Python 3.11")
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RequestError) as caught:
        find_protocol(path)
    assert all(word in str(caught.value) for word in (*words, str(path))), caught.value
    assert not any(word in str(caught.value) for word in ("Measurement", "Protocol", "Published", "__init__"))


def test_the_page_lists_the_required_keys():
    required = re.search(r"The keys (.*) are required", (ROOT / "docs" / "protocols.md").read_text())[1]
    assert set(re.findall(r"`(\w+)`", required)) == set(registry._REQUIRED)


def test_the_page_shows_the_table():
    page = (ROOT / "docs" / "protocols.md").read_text()
    assert run("protocols", "--markdown")[1].strip() in page


def test_statistics_of_another_crop_are_a_deviation(small):
    arguments = small("coco-30k-gigagan")
    options = {"preprocessing": "clean"}
    cropped = frechet.collect(arguments["reference"], crop="long-edge", size=SIZE, **options)
    scores = frechet.score(arguments["generated"], cropped, protocol="coco-30k-gigagan", interval="none")
    expected = frechet.score(**arguments, protocol="coco-30k-gigagan", interval="none")
    assert scores["fid"].value == pytest.approx(expected["fid"].value, rel=1e-6)
    for crop, words in (({"crop": "adm", "size": SIZE}, r"adm\(4\) crop"), ({}, "no crop")):
        other = frechet.collect(arguments["reference"], **crop, **options)
        with pytest.raises(RequestError, match=rf"statistics with {words} \(expected long-edge\(4\)\)"):
            frechet.score(arguments["generated"], other, protocol="coco-30k-gigagan")


@pytest.mark.parametrize("name", ["mar-imagenet-256", "edm2-img512"])
def test_a_function_may_generate_the_images(small, name):
    arguments = small(name)
    images = iter(make_pixels())
    scores = frechet.score(
        lambda n: [next(images) for _ in range(n)], arguments["reference"], protocol=name, num_images=N, interval="none"
    )
    expected = frechet.score(**arguments, protocol=name, interval="none")
    for metric in expected:
        assert scores[metric].value == pytest.approx(expected[metric].value, rel=1e-6)

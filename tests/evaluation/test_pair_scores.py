"""PSNR, SSIM and LPIPS of pairs of images, compared with torchmetrics."""

import base64
import io
import json
import re

import numpy as np
import pytest
from helpers import run
from PIL import Image

import frechet
from frechet.distances.image_pairs import peak_signal_noise_ratio, structural_similarity
from frechet.distances.mean_of_pairs import mean_of_pairs
from frechet.errors import RequestError

METRICS = ["psnr", "ssim"]


def make_pairs(count=12, size=(24, 20), noise=20, seed=0):
    """Return smooth images (count, h, w, 3) uint8, and the same with noise of a different strength for each."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, -(-size[0] // 4), -(-size[1] // 4), 3)).astype(float)
    images = coarse.repeat(4, 1).repeat(4, 2)[:, : size[0], : size[1]]
    strength = noise * (0.2 + random.random((count, 1, 1, 1)))
    return [
        np.clip(x, 0, 255).astype(np.uint8) for x in (images, images + strength * random.standard_normal(images.shape))
    ]


def write_images(folder, images, suffix=".png"):
    folder.mkdir()
    for index, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{index:03d}{suffix}")
    return folder


@pytest.fixture
def folders(tmp_path):
    original, reconstructed = make_pairs()
    return write_images(tmp_path / "reconstructed", reconstructed), write_images(tmp_path / "original", original)


def as_tensors(*images):
    import torch

    return [torch.from_numpy(x).permute(0, 3, 1, 2).double() / 255 for x in images]


@pytest.mark.slow
def test_200_pairs_have_the_values_of_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics.functional.image")
    count = 200
    original, reconstructed = make_pairs(count, (32, 40))
    one, other = as_tensors(reconstructed, original)
    psnr = torchmetrics.peak_signal_noise_ratio(one, other, 1.0, dim=(1, 2, 3), reduction="none").numpy()
    ssim = torchmetrics.structural_similarity_index_measure(one, other, data_range=1.0, reduction="none").numpy()
    pairs = list(zip(reconstructed, original, strict=True))
    psnr *= (
        10 / np.log(10) / float(np.float32(10) / np.log(np.float32(10)))
    )  # torchmetrics rounds this factor to float32
    np.testing.assert_allclose([peak_signal_noise_ratio(*pair) for pair in pairs], psnr, rtol=0, atol=1e-6)
    np.testing.assert_allclose([structural_similarity(*pair) for pair in pairs], ssim, rtol=0, atol=1e-9)
    scores = frechet.score(reconstructed, original, metrics=METRICS)
    assert scores["psnr"].value == pytest.approx(psnr.mean(), abs=1e-6)
    assert scores["ssim"].value == pytest.approx(ssim.mean(), abs=1e-6)
    assert scores["ssim"].standard_error == pytest.approx(ssim.std(ddof=1) / count**0.5, rel=1e-6)
    pooled = torchmetrics.peak_signal_noise_ratio(one, other, 1.0).item()
    assert scores["psnr"].terms["of_mean_squared_error"] == pytest.approx(pooled, rel=1e-7)


def test_values_of_constant_images_by_hand():
    """All means are known and all variances are 0: the structure term of SSIM is 1."""
    dark, bright = np.full((8, 9, 3), 100, np.uint8), np.full((8, 9, 3), 110, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert peak_signal_noise_ratio(dark, bright) == pytest.approx(20 * np.log10(25.5), abs=1e-12)
    assert structural_similarity(dark, bright) == pytest.approx((2 * 11_000 + c1) / (10_000 + 12_100 + c1), abs=1e-12)
    assert structural_similarity(dark, dark) == 1.0
    assert peak_signal_noise_ratio(dark, dark) == np.inf


def test_interval_of_the_mean_is_that_of_student():
    scipy = pytest.importorskip("scipy.stats")
    for n in (2, 5, 11, 40, 500):
        values = np.random.default_rng(n).standard_normal(n) + 3
        found = mean_of_pairs(values)
        low, high = scipy.t.interval(0.95, n - 1, values.mean(), scipy.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high), rel=2e-4)
        assert (found.groups is None) == (n < 128)
    assert np.var(found.groups, ddof=1) == pytest.approx(
        found.standard_error**2, rel=0.6
    )  # √(2/63) = 0.18, three times


@pytest.mark.slow
def test_metrics_of_features_and_of_pairs_in_one_run(folders):
    scores = frechet.score(*folders, metrics=["fd", *METRICS], extractor="efficientnet-lite0", interval="none")
    assert scores.unavailable == {}
    assert list(scores) == ["fd", *METRICS]
    alone = frechet.score(*folders, metrics=METRICS)
    for name in METRICS:
        assert scores[name].value == alone[name].value
    assert alone["psnr"].interval_95[0] < alone["psnr"].value < alone["psnr"].interval_95[1]
    assert alone["psnr"].sampling_design == "12 pairs"
    assert alone["psnr"].provenance["generated"]["n"] == 12
    assert (alone["psnr"].label, alone["psnr"].lower_is_better) == ("PSNR", False)


def test_images_in_memory_and_iterators(folders):
    arrays = [np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]) for folder in folders]
    expected = frechet.score(*folders, metrics=METRICS)
    for inputs in (arrays, [list(each) for each in arrays], [iter(list(each)) for each in arrays]):
        found = frechet.score(*inputs, metrics=METRICS)
        assert [score.value for score in found.values()] == [score.value for score in expected.values()]


def test_the_worst_pairs_are_listed_first(folders):
    pairs = [[np.asarray(Image.open(path)) for path in sorted(folder.iterdir())] for folder in folders]
    ratios = [peak_signal_noise_ratio(*pair) for pair in zip(*pairs, strict=True)]
    worst = frechet.score(*folders, metrics="psnr")["psnr"].worst_pairs
    assert [pair["source_index"] for pair in worst] == np.argsort(ratios)[:10].tolist()
    assert worst[0]["value"] == min(ratios)
    assert worst[0]["reference"].endswith(f"original/{np.argmin(ratios):03d}.png")


def test_subsets_choose_the_same_pairs_and_crops_apply(folders, tmp_path):
    original, reconstructed = make_pairs()
    subset = frechet.score(*folders, metrics="psnr", num_images=5, seed=3)["psnr"]
    chosen = sorted(pair["source_index"] for pair in subset.worst_pairs)
    ratios = [peak_signal_noise_ratio(reconstructed[index], original[index]) for index in chosen]
    assert subset.value == pytest.approx(np.mean(ratios), abs=1e-12)
    larger = np.pad(original, ((0, 0), (4, 4), (6, 6), (0, 0)), mode="edge")
    padded = write_images(tmp_path / "larger", larger)
    with pytest.raises(RequestError, match=r"24 x 20 pixels, and its reference .* 32 x 32 pixels.*--reference-crop"):
        frechet.score(folders[0], padded, metrics=METRICS)
    square = write_images(tmp_path / "square", reconstructed[:, 2:-2])
    found = frechet.score(square, padded, metrics="psnr", reference_crop="torchvision", size=20)["psnr"]
    assert found.value == pytest.approx(
        np.mean(
            [peak_signal_noise_ratio(a[2:-2], b) for a, b in zip(reconstructed, central_crops(larger), strict=True)]
        )
    )
    assert found.provenance["reference"]["crop"] == "torchvision(20)"


def central_crops(images):
    """torchvision's crop of square images: resize the shorter side to 20, then the central 20 pixels (here, all)."""
    return [np.asarray(Image.fromarray(x).resize((20, 20), Image.Resampling.BILINEAR)) for x in images]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda a, b: (a, write_images(a.parent / "few", make_pairs(11)[0])), "12 and 11"),
        (lambda a, b: (a, None), "no reference is given"),
    ],
)
def test_inputs_that_are_not_pairs_are_rejected(folders, change, problem):
    with pytest.raises(RequestError, match=problem):
        frechet.score(*change(*folders), metrics=METRICS)


@pytest.mark.slow
def test_other_requests_are_rejected_with_the_fix(folders, tmp_path):
    (folders[1] / "000.png").rename(folders[1] / "0000.png")
    with pytest.raises(RequestError, match=r"equal names in the same order: got 000 and 0000\. Rename"):
        frechet.score(*folders, metrics=METRICS)
    (folders[1] / "0000.png").rename(folders[1] / "000.png")
    with pytest.raises(RequestError, match="leave out --design"):
        frechet.score(*folders, metrics=METRICS, design="independent")
    with pytest.raises(RequestError, match="worst pairs are always listed"):
        frechet.score(*folders, metrics=METRICS, explain=3)
    statistics = frechet.collect(folders[1], extractor="efficientnet-lite0")
    with pytest.raises(RequestError, match=r"contains statistics; pass the reference images"):
        frechet.score(folders[0], statistics, metrics=METRICS)
    found = frechet.score(folders[0], statistics, metrics=METRICS, reference_images=folders[1])
    assert found["psnr"].value == frechet.score(*folders, metrics="psnr")["psnr"].value
    with pytest.raises(RequestError, match="compares the pixels"):
        frechet.score_statistics(statistics, statistics, metrics="ssim")


def test_equal_images_have_no_finite_ratio(folders):
    (folders[0] / "003.png").write_bytes((folders[1] / "003.png").read_bytes())
    scores = frechet.score(*folders, metrics=METRICS)
    assert "infinite for 1 of 12 pairs" in scores.unavailable["psnr"]
    assert "pair 3" in scores.unavailable["psnr"]
    assert scores["ssim"].value < 1


def test_images_too_small_for_one_metric_leave_the_others(folders):
    small = [
        np.concatenate([np.zeros((1, 5, 40, 3), np.uint8), images[:, :5, :40]]) for images in make_pairs(3, (8, 40))
    ]
    small[0][0] += 1
    for order in (["psnr", "ssim"], ["ssim", "psnr"]):
        scores = frechet.score(*map(list, small), metrics=order)
        assert list(scores) == ["psnr"]
        assert (
            "SSIM needs images of at least 6 x 6 pixels; the shorter side of the smallest one has 5"
            in scores.unavailable["ssim"]
        )
    large = [[*one, *other] for one, other in zip(small, make_pairs(2), strict=True)]
    assert list(frechet.score(*large, metrics=METRICS)) == ["psnr"]
    with pytest.raises(RequestError, match="SSIM needs images"):
        frechet.score(*map(list, small), metrics="ssim")


def test_a_damaged_image_takes_its_partner_with_it(folders):
    expected = frechet.score(*folders, metrics="psnr")["psnr"]
    (folders[0] / "002.png").write_bytes(b"damaged")
    (folders[1] / "007.png").write_bytes(b"damaged")
    with pytest.raises(frechet.errors.RunError):
        frechet.score(*folders, metrics=METRICS)
    found = frechet.score(*folders, metrics="psnr", on_bad_image="skip")["psnr"]
    ratios = {pair["source_index"]: pair["value"] for pair in found.worst_pairs}
    assert ratios.keys() == set(range(12)) - {2, 7}
    known = {pair["source_index"]: pair["value"] for pair in expected.worst_pairs}
    assert all(ratios[index] == value for index, value in known.items() if index in ratios)
    assert len(found.skipped_images) == 2


def test_classes_and_repetitions(tmp_path):
    original, reconstructed = make_pairs()
    sides = []
    for name, images in (("a", reconstructed), ("b", original)):
        (tmp_path / name).mkdir()
        write_images(tmp_path / name / "cat", images[:5])
        write_images(tmp_path / name / "dog", images[5:])
        sides.append(tmp_path / name)
    score = frechet.score(*sides, metrics="psnr", per_class=True)["psnr"]
    ratios = [peak_signal_noise_ratio(*pair) for pair in zip(reconstructed, original, strict=True)]
    assert score.per_class == pytest.approx({"cat": np.mean(ratios[:5]), "dog": np.mean(ratios[5:])})
    repeated = frechet.score(*sides, metrics="psnr", repeat=3, num_images=6)["psnr"]
    assert len(set(repeated.repeats)) == 3
    assert repeated.value == pytest.approx(np.mean(repeated.repeats))


@pytest.mark.slow
def test_comparison_of_two_tokenizers_uses_that_they_share_their_images():
    """The difference of two means over the same pairs has the standard error of the mean difference."""
    original, one = make_pairs(600, (8, 8), 20)
    rng = np.random.default_rng(5)
    other = np.clip(one + rng.integers(-2, 3, one.shape), 0, 255).astype(np.uint8)
    runs = {name: frechet.score(x, original, metrics="psnr") for name, x in (("one", one), ("other", other))}
    (comparison,) = frechet.compare_runs(runs)
    differences = [
        peak_signal_noise_ratio(a, x) - peak_signal_noise_ratio(b, x)
        for a, b, x in zip(one, other, original, strict=True)
    ]
    row = next(row for row in comparison.rows if row.run == "other")
    error = (row.difference_95[1] - row.difference_95[0]) / 2 / 1.96
    assert error == pytest.approx(np.std(differences, ddof=1) / 600**0.5, rel=0.4)
    assert error < runs["one"]["psnr"].standard_error / 3


@pytest.mark.slow
def test_page_shows_the_worst_pairs_with_their_differences(folders, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    options = ["--extractor", "efficientnet-lite0", "--metrics", "psnr,fd,ssim"]
    code, _, err = run("score", *folders, *options, "--report", tmp_path / "page.html")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    assert "efficientnet-lite0, layer 1280" in page.partition("Scores</h2>")[0]  # the extractor of the diagnostics
    assert "scores only" not in page
    section = page.partition("Worst pairs</h2>")[2].partition("</section>")[0]
    assert section.count("<tr><td>") == 2 * 10
    assert section.count("data:image/png") == 2 * 10 * 3
    worst = frechet.score(*folders, metrics="psnr")["psnr"].worst_pairs[0]["source_index"]
    difference = read_data_urls(section)[2]
    one, other = (np.asarray(Image.open(folder / f"{worst:03d}.png")).astype(int) for folder in folders)
    np.testing.assert_array_equal(difference, np.minimum(4 * abs(one - other), 255))
    code, _, err = run("score", *folders, "--metrics", "psnr", "--report", tmp_path / "pixels.html")
    assert code == 2
    assert "--metrics rfid,psnr" in err


def read_data_urls(html):
    urls = re.findall(r"data:image/png;base64,([^\"]*)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url)))) for url in urls]


def test_command_line(folders, tmp_path):
    code, out, err = run("score", *folders, "--metrics", "psnr,ssim", "--output", tmp_path / "run.json")
    assert code == 0, err
    assert "PSNR" in out
    assert "↑" in out
    assert "12 pairs" in out
    assert "worst pairs" in err
    written = json.loads((tmp_path / "run.json").read_text())["scores"]["ssim"]
    assert len(written["worst_pairs"]) == 10
    code, _, err = run("score", folders[0], tmp_path / "missing", "--metrics", "psnr")
    assert code == 2

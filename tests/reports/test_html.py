"""The HTML report: its content, its notes about missing parts, and that it executes only its own script."""

import base64
import io
import json
import re
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
from browser import chromium, get_console_messages, get_requested_urls, run_axe, set_color_scheme
from golden_images import make_tiles
from helpers import parse_options, run
from PIL import Image
from seeded_weights import write_pth
from toy_extractor import BIAS, KERNEL, TOY_EXTRACTOR

import frechet
from frechet.cli.main import frechet as command_line
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import leading_directions, optimal_coupling
from frechet.errors import OutputError, RequestError
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.run import Evaluation, evaluate
from frechet.execution.settings import Settings
from frechet.features.registry import EXTRACTORS, register_extractor
from frechet.features.spec import FeatureSpec
from frechet.reports import html
from frechet.reports.comparison_page import render_comparison_page
from frechet.reports.diagnostics import compute_diagnostics
from frechet.reports.run_comparison import compare_runs
from frechet.reports.score_table import build_score_rows, describe_scores
from frechet.reports.text import format_scores
from frechet.reports.thumbnails import ThumbnailCache
from frechet.results import Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics

pytestmark = pytest.mark.usefixtures("small_inputs")

pytest.importorskip("jinja2")
OFFLINE = {"extractor": "efficientnet-lite0"}
EVIL = "<img src=x onerror=alert(1)>.png"


def write_report(request, path):
    """Score, write a page about it, and return the scores."""
    evaluation = html.evaluate_for_report(request, path)
    html.write_report(evaluation, request, path)
    return evaluation.scores


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Patches of two photographs; one generated image has a name with markup, another is a copy of a reference image."""
    folder = tmp_path_factory.mktemp("report")
    for name, photograph in (("generated", "astronaut"), ("reference", "coffee")):
        (folder / name).mkdir()
        for i, tile in enumerate(make_tiles(f"skimage/data/{photograph}.png", 20)):
            Image.fromarray(tile).save(folder / name / f"{i:02d}.png")
    (folder / "generated" / "03.png").rename(folder / "generated" / EVIL)
    shutil.copy(folder / "reference" / "07.png", folder / "generated" / "copy.png")
    return folder / "generated", folder / "reference"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Settings of an extractor with 5 dimensions, for which 20 images are enough."""
    weights = write_pth(tmp_path_factory.mktemp("toy") / "toy.pth", {"mix.weight": KERNEL, "mix.bias": BIAS})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EXTRACTORS, "_entries", dict(EXTRACTORS._entries))
        register_extractor("toy-name", TOY_EXTRACTOR)
        yield {"extractor": "toy-name", "weights": weights}


@pytest.fixture(scope="module")
def page(folders, toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    metrics = ["fd", "precision", "recall", "density", "coverage"]
    write_report(ScoreRequest(*folders, per_class=False, metrics=metrics, **toy), path)
    return path


@pytest.mark.slow
def test_page_is_self_contained_and_has_every_section(page):
    text = page.read_text()
    assert page.stat().st_size < 6_000_000
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    sections = (
        "scores",
        "sample-size",
        "fidelity",
        "decomposition",
        "influential",
        "nearest",
        "uncovered",
        "provenance",
    )
    for section in sections:
        assert f'<section aria-labelledby="{section}">' in text
        assert f'<h2 id="{section}">' in text
        assert f'<a href="#{section}">' in text
    assert "<h1>FD-Toy of generated vs reference</h1>" in text
    for fact in (
        "generated, 21 images",
        "reference, 20 images",
        "toy-name, layer 5",
        "pytorch-fid",
        frechet.__version__,
    ):
        assert fact in text.partition("</header>")[0]


@pytest.mark.slow
def test_figures_can_be_saved_for_papers(page):
    text = page.read_text()
    for media_type, start in (("image/svg+xml", b"<?xml"), ("application/pdf", b"%PDF-1")):
        files = re.findall(rf'href="data:{re.escape(media_type)};base64,([^"]+)" download=', text)
        assert len(files) == 2
        assert all(base64.b64decode(file).startswith(start) for file in files)


@pytest.mark.slow
def test_page_about_few_images_interprets_no_noise(folders, tmp_path):
    """21 and 20 images for 1,280 dimensions."""
    metrics = ["fd", "precision", "coverage"]
    write_report(ScoreRequest(*folders, metrics=metrics, **OFFLINE), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    sections = re.findall(r'<section aria-labelledby="([^"]+)">', text)
    assert sections == ["scores", "few-images", "fidelity", "nearest", "uncovered", "warnings", "provenance"]
    explanation = text.partition('aria-labelledby="few-images"')[2].partition("</section>")[0]
    for part in ("21 generated", "20 reference", "1,280", "1,920"):
        assert part in explanation


def test_influential_images_that_were_requested_are_shown_with_the_warning(tmp_path):
    random = np.random.default_rng(0)
    generated, reference = (random.standard_normal((n, 30)).astype(np.float32) for n in (20, 40))
    request = ScoreRequest(generated, reference, features=True, metrics="fd", explain=6)
    scores = write_report(request, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    section = text.partition('aria-labelledby="influential"')[2].partition("</section>")[0]
    listed = re.findall(r'class="name" data-value="([^"]+)"', section)
    named = [row["image"] for row in scores["fd"].influence["raise"]]
    assert named
    assert listed[: len(named)] == named
    assert "These lists are unreliable" in section
    assert "is unreliable, because an input has as many images" in text.partition('aria-labelledby="warnings"')[2]
    assert "Only the images are shown, as requested." in text


@pytest.mark.slow
def test_page_about_few_images_has_no_distances_per_class(folders, tmp_path):
    for name, folder in zip(("one", "other"), folders, strict=True):
        for i, path in enumerate(sorted(folder.iterdir())[:12]):
            (tmp_path / name / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / name / "ab"[i % 2] / f"{i}.png")
    request = ScoreRequest(tmp_path / "one", tmp_path / "other", metrics="fd,precision", per_class=True, **OFFLINE)
    write_report(request, tmp_path / "page.html")
    section = (tmp_path / "page.html").read_text().partition('aria-labelledby="classes"')[2].partition("</section>")[0]
    assert re.findall(r'class="sort">([^<]+)</button>', section) == ["Class", "Precision-EfficientNet-Lite0"]


def test_intervals_are_drawn_to_scale():
    score = Score(
        metric="fd", label="FD", value=6.0, corrected_value=4.0, interval_95=(-2.0, 10.0), lower_is_better=True
    )
    (row,) = build_score_rows([score])
    assert (row.value, row.corrected, row.interval) == ("6", "4", "\N{MINUS SIGN}2 to 10")
    drawn = row.whisker
    assert [drawn.interval[0], drawn.zero, drawn.corrected, drawn.value, drawn.interval[1]] == pytest.approx(
        [6 + 148 * (x + 2) / 12 for x in (-2, 0, 4, 6, 10)], abs=0.01
    )


def _shown_images(path, section):
    text = path.read_text().partition(f'aria-labelledby="{section}"')[2].partition("</section>")[0]
    return re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', text)


@pytest.mark.slow
def test_thumbnails_of_a_statistics_file_are_shown(folders, toy, tmp_path):
    code, out, _ = run(
        "stats",
        folders[1],
        tmp_path / "r.npz",
        "--thumbnails",
        20,
        "--extractor",
        "toy-name",
        "--weights",
        toy["weights"],
    )
    assert (code, "20 images" in out) == (0, True)
    write_report(ScoreRequest(folders[0], tmp_path / "r.npz", **toy), tmp_path / "page.html")
    write_report(ScoreRequest(*folders, **toy), tmp_path / "of_images.html")
    shown, expected = (_shown_images(tmp_path / name, "nearest") for name in ("page.html", "of_images.html"))
    assert [name for _, name in shown] == [name for _, name in expected]  # the names are stored as well
    assert len(shown) == 4 * 12
    for (one, _), (other, _) in zip(shown, expected, strict=True):
        pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in (one, other)]
        np.testing.assert_array_equal(*pixels)  # 64 pixels: not reduced


@pytest.mark.slow
def test_reference_images_without_thumbnails_are_not_chosen(folders, toy, tmp_path):
    frechet.collect(folders[1], thumbnails=5, **toy).save(tmp_path / "r.npz")
    write_report(ScoreRequest(folders[0], tmp_path / "r.npz", **toy), tmp_path / "page.html")
    stored = {f"{i:02d}.png" for i in np.linspace(0, 19, 5).round().astype(int)}
    names = {name for _, name in _shown_images(tmp_path / "page.html", "uncovered")}
    assert names & stored
    text = (tmp_path / "page.html").read_text()
    assert "thumbnails of 5 of its images" in text
    assert "label-only" not in text.partition("<main")[2]


@pytest.mark.slow
def test_page_states_how_to_add_images_of_the_reference(folders, toy, tmp_path):
    frechet.collect(folders[1], **toy).save(tmp_path / "r.npz")
    request = ScoreRequest(folders[0], tmp_path / "r.npz", **toy)
    write_report(request, tmp_path / "page.html")
    assert "--thumbnails 256" in (tmp_path / "page.html").read_text()
    sample = frechet.collect(folders[1], **toy)  # as of more than 4,096 images
    sample = replace(sample, rows=sample.rows[:15], indices=sample.indices[:15])
    request = ScoreRequest(folders[0], sample, reference_images=folders[1], **toy)
    write_report(request, tmp_path / "with_images.html")
    assert "--thumbnails" not in (tmp_path / "with_images.html").read_text()
    assert len(_shown_images(tmp_path / "with_images.html", "nearest")) == 4 * 12


def test_thumbnails_that_cannot_be_stored_are_rejected(folders, toy):
    for options, message in (
        ({"thumbnails": 257}, "257.*0 to 256"),
        ({"thumbnails": 4, "features": True}, "needs images.*leave"),
    ):
        with pytest.raises(RequestError, match=message):
            frechet.collect(folders[0], **options)
    with pytest.raises(RequestError, match=r"read twice.*folder"):
        frechet.collect(lambda n: np.zeros((n, 8, 8, 3), np.uint8), num_images=4, thumbnails=2, **toy)


@pytest.mark.slow
def test_markup_in_file_names_is_escaped(page):
    text = page.read_text()
    assert EVIL not in text
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in text


@pytest.mark.slow
def test_metadata_of_statistics_is_escaped(tmp_path):
    """A formula for the plot, an escape sequence for a terminal, and a name that is not valid Unicode."""
    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    spec = FeatureSpec(extractor="evil\x1b[31m$\\frac", layer="\x1b]0;title\x07\nFID: 0", preprocessing="<b>")
    generated = replace(
        FeatureStatistics.from_features(x, spec=spec, label="caf\udce9"), labels=("caf\udce9/a.png",) * 60
    )
    reference = FeatureStatistics.from_features(x + 1, spec=spec)
    scores = write_report(ScoreRequest(generated, reference, metrics="fd,precision"), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert r"caf\udce9" in text
    for shown in (text, format_scores(scores)):
        assert "\x1b" not in shown
        assert "\nFID: 0" not in shown
    assert "<b>" not in text


@pytest.mark.slow
def test_scores_equal_those_of_score(folders, toy, tmp_path):
    scores = write_report(ScoreRequest(*folders, **toy), tmp_path / "again.html")
    expected = frechet.score(*folders, **toy)
    assert scores["fd"].value == expected["fd"].value
    assert scores["fd"].influence is None  # shown on the page; part of the score only if requested
    assert json.loads(scores.to_json())["scores"]["fd"]["value"] == expected["fd"].value
    with pytest.raises(OutputError, match="exists"):
        write_report(ScoreRequest(*folders, **toy), tmp_path / "again.html")


@pytest.mark.slow
def test_command_on_the_page_reproduces_the_score(folders, toy, page):
    command = re.search(r'<pre id="command"[^>]*>(.*?)</pre>', page.read_text())[1].replace("&#39;", "'")
    words = shlex.split(command)
    assert words[:2] == ["frechet", "score"]
    code, out, _ = run(*words[1:], "--json")
    assert code == 0
    assert json.loads(out)["scores"]["fd"]["value"] == frechet.score(*folders, **toy)["fd"].value


def test_command_on_the_page_has_every_option_of_the_run(folders, monkeypatch, tmp_path):
    """The parser of the command line reads the same options from it, except those of output files and of the execution."""

    class RenderedError(Exception): ...

    def render(_evaluation, _request, command):
        raise RenderedError(command)

    monkeypatch.setattr("frechet.reports.html.evaluate", lambda *_, **__: Evaluation(Scores({}, {}), {}, {}))
    monkeypatch.setattr("frechet.reports.html.render_report_page", render)
    monkeypatch.chdir(tmp_path)
    flags = "--metrics all --splits 5,10 --interval none --explain 3 --seed 4 --num-images 20 --on-bad-image skip "
    flags += (
        "--extractor efficientnet-lite0 --workers 1 --held-out other --per-class --until-half-width 7% --max-images 30"
    )
    words = [*map(str, folders), *flags.split()]
    others = "--report page.html --output run.json --json --verbose --work-dir run --force --cache"
    with pytest.raises(RenderedError) as rendered:
        command_line.main(["score", *words, *others.split(), "--progress", "off"], standalone_mode=False)
    shown = shlex.split(str(rendered.value))[2:]
    assert parse_options("score", shown) == parse_options("score", words)


@pytest.mark.slow
@pytest.mark.parametrize("empty", ["raising", "lowering"])
def test_no_table_without_influential_images(folders, toy, tmp_path, monkeypatch, empty):
    def compute_one_table(*arguments, **options):
        diagnostics = compute_diagnostics(*arguments, **options)
        setattr(diagnostics, empty, [])
        return diagnostics

    monkeypatch.setattr("frechet.reports.report_page.compute_diagnostics", compute_one_table)
    write_report(ScoreRequest(*folders, interval="none", **toy), tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text()
    assert {name for name in ("raising", "lowering") if f'id="{name}"' in page} == {"raising", "lowering"} - {empty}


@pytest.mark.slow
def test_nearest_reference_image_of_a_copy_is_the_original(folders):
    generated, reference = (frechet.collect(folder, **OFFLINE) for folder in folders)
    diagnostics = compute_diagnostics(generated, reference)
    copy = diagnostics.neighbours.near[0]
    assert (copy.row, copy.nearest[0].row) == (20, 7)  # "copy.png" sorts after 00 ... 19
    assert copy.nearest[0].distance < 1e-3 * diagnostics.neighbours.median_nn_distance
    assert copy.nearest[0].distance < 0.1 * diagnostics.neighbours.near[1].nearest[0].distance


def _statistics_with_all_rows(features):
    """Statistics that kept all rows, as for a report on images."""
    return replace(FeatureStatistics.from_features(features), rows=features, indices=np.arange(len(features)))


@pytest.mark.slow
def test_all_generated_images_are_searched_for_nearest_neighbours(monkeypatch):
    """Images are often sorted by class, so a search among the first rows would miss the last classes. Copies have distance 0."""
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((n, 4)).astype(np.float32) + np.float32(1000) for n in (6000, 200))
    x[5000:, 0] += 40
    y[150:, 0] += 40
    y[150:] = x[5900:5950]
    y[77, 1] += 30  # far from all generated images
    diagnostics = compute_diagnostics(
        _statistics_with_all_rows(x), _statistics_with_all_rows(y), compute_intervals=False
    )
    distances = np.linalg.norm(x[None].astype(float) - y[:, None], axis=2)
    own = np.sort(np.linalg.norm(y[None].astype(float) - y[:, None], axis=2), axis=1)[:, 1]
    assert diagnostics.neighbours.median_nn_distance == pytest.approx(np.median(own), rel=1e-12)
    assert [row for row, _ in diagnostics.neighbours.uncovered] == [
        i for i in np.argsort(-distances.min(1))[:12] if distances[i].min() > diagnostics.neighbours.median_nn_distance
    ]
    assert diagnostics.neighbours.uncovered[0][0] == 77
    assert all(
        near.distance == pytest.approx(distances[row].min(), rel=1e-12)
        for row, near in diagnostics.neighbours.uncovered
    )
    assert not any(row >= 150 for row, _ in diagnostics.neighbours.uncovered)
    near = compute_diagnostics(
        _statistics_with_all_rows(y), _statistics_with_all_rows(x), compute_intervals=False
    ).neighbours.near
    assert {image.nearest[0].distance for image in near if image.row >= 150} == {0.0}
    assert all(image.row >= 150 for image in near)
    monkeypatch.setattr("frechet.reports.near_images._MAX_ROWS", 50)
    diagnostics = compute_diagnostics(
        _statistics_with_all_rows(x), _statistics_with_all_rows(y), compute_intervals=False
    )
    assert diagnostics.neighbours.median_nn_distance == pytest.approx(
        np.median(own[np.linspace(0, 199, 50).round().astype(int)]), rel=1e-12
    )
    assert "50 of the 6,000 generated images" in diagnostics.notes[0]
    assert "50 of the 200 reference images" in diagnostics.notes[1]


def test_no_uncovered_images_if_every_reference_image_was_generated():
    x = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    diagnostics = compute_diagnostics(
        _statistics_with_all_rows(x), _statistics_with_all_rows(x[::2]), compute_intervals=False
    )
    assert diagnostics.neighbours.median_nn_distance > 0
    assert diagnostics.neighbours.uncovered == []
    assert diagnostics.notes == []


def test_note_if_only_some_reference_features_are_stored():
    random = np.random.default_rng(0)
    x, y = (
        random.standard_normal((n, 4)).astype(np.float32) for n in (300, 5000)
    )  # from 8 d images on, only a sample of rows is kept
    diagnostics = compute_diagnostics(
        _statistics_with_all_rows(x), FeatureStatistics.from_features(y), compute_intervals=False
    )
    assert "4,096 of its images" in diagnostics.notes[0]


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 12), (9, 300, 24), (300, 9, 24), (700, 800, 512)])
def test_directions_add_up_to_the_distance(n, m, d):
    """Contributions add up to the distance, except for the part of q outside the span of p; a shift is found as a direction."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n, d)), random.standard_normal((m, d))
    x[:, 3] += 5
    p, q = Gaussian.from_features(x), Gaussian.from_features(y)
    leading = leading_directions(p, q, optimal_coupling(p, q), d)
    total = frechet_terms(p, q).total
    assert leading.axes.shape == (min(n, d), d)
    assert abs(leading.axes[0, 3]) > 0.9
    np.testing.assert_allclose(np.linalg.norm(leading.axes, axis=1), 1, rtol=1e-9)
    if n > d:
        assert leading.contributions.sum() == pytest.approx(total, rel=1e-9)
    else:
        assert leading.contributions.sum() < total
    shift = (p.mean - q.mean) @ leading.axes[0]
    assert leading.contributions[0] > shift**2


@pytest.mark.parametrize("shuffle", [False, True])
def test_thumbnails_show_the_scored_images_or_nothing(shuffle):
    """A shuffling loader returns other images at the same indices the second time."""
    torch = pytest.importorskip("torch")
    images = np.arange(16, dtype=np.uint8).repeat(8 * 8 * 3).reshape(16, 8, 8, 3) * 16

    def grey(pixels):
        return pixels.mean((2, 3))[:, :2] + torch.tensor([0.0, 1.0])

    grey.input_size = 8
    loader = torch.utils.data.DataLoader([(torch.from_numpy(i).permute(2, 0, 1), 0) for i in images], shuffle=shuffle)
    settings = Settings(extractor=grey, preprocessing="beit")  # 2x/255 - 1
    evaluation = evaluate(
        ScoreRequest(loader, images, extractor=grey, preprocessing="beit", explain=1), keep_features=True
    )
    thumbnails = ThumbnailCache(evaluation.statistics["generated"], evaluation.sources["generated"], settings)
    thumbnails.load(range(16))
    for row, feature in enumerate(evaluation.statistics["generated"].rows[:, 0]):
        if shuffle:
            assert thumbnails[row].data_url is None
        else:
            shown = Image.open(io.BytesIO(base64.b64decode(thumbnails[row].data_url.partition(",")[2])))
            assert np.asarray(shown).mean() == pytest.approx((feature + 1) * 255 / 2, abs=0.5)


@pytest.mark.slow
def test_directions_that_contribute_little_are_left_out():
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((20_000, 6)).astype(np.float32) for _ in range(2))
    x[:, 2] += 3
    directions = compute_diagnostics(
        FeatureStatistics.from_features(x, keep_all=True), FeatureStatistics.from_features(y), compute_intervals=False
    ).directions
    assert [round(direction.share, 2) for direction in directions] == [1.0]


def test_curve_ends_at_the_score(folders, toy):
    one, other = (frechet.collect(folder, **toy) for folder in folders)
    diagnostics = compute_diagnostics(one, other)
    assert diagnostics.curve[-1].n_generated == 21
    assert diagnostics.curve[-1].value == pytest.approx(frechet.score_statistics(one, other)["fd"].value, rel=1e-9)
    assert [point.n_generated for point in diagnostics.curve] == sorted(
        {point.n_generated for point in diagnostics.curve}
    )
    assert diagnostics.curve[0].n_generated > 5  # with fewer, the covariance is singular
    assert all(point.corrected_value is None for point in diagnostics.curve)  # an interval needs 50 images


@pytest.mark.slow
def test_last_point_of_the_curve_is_taken_from_the_score(tmp_path, monkeypatch):
    random, computed = np.random.default_rng(0), []
    features = [random.standard_normal((n, 8)).astype(np.float32) for n in (300, 200)]
    real = frechet.reports.diagnostics.compute_frechet_interval

    def watched(generated, *rest):
        computed.append(generated.n)
        return real(generated, *rest)

    monkeypatch.setattr("frechet.reports.diagnostics.compute_frechet_interval", watched)
    score = write_report(ScoreRequest(*features, features=True), tmp_path / "page.html")["fd"]
    assert computed
    assert 300 not in computed
    row = re.search(r'data-value="300">300</td>(.*?)</tr>', (tmp_path / "page.html").read_text())[1]
    shown = [float(text) for text in re.findall(r'data-value="([^"]+)"', row)]
    assert shown == [score.value, score.corrected_value, *score.interval_95]


@pytest.mark.slow
def test_curve_belongs_to_the_plain_distance(tmp_path):
    """The curve does not show an extrapolated distance."""
    random = np.random.default_rng(0)
    features = [random.standard_normal((n, 8)).astype(np.float32) for n in (300, 200)]
    scores = write_report(ScoreRequest(*features, features=True, metrics=["fd-infinity", "fd"]), tmp_path / "page.html")
    row = re.search(r'data-value="300">300</td>(.*?)</tr>', (tmp_path / "page.html").read_text())[1]
    assert float(re.search(r'data-value="([^"]+)"', row)[1]) == scores["fd"].value
    assert scores["fd"].interval_95
    assert f'data-value="{scores["fd"].corrected_value}"' in row


@pytest.mark.slow
def test_curve_has_corrected_values_if_there_are_enough_images():
    """Two Gaussians with a known distance: d shifts of 0.3, equal covariances. Only the interval covers it."""
    random, d = np.random.default_rng(0), 32
    one, other = (random.standard_normal((n, d)).astype(np.float32) for n in (4000, 3000))
    diagnostics = compute_diagnostics(
        FeatureStatistics.from_features(one + np.float32(0.3)), FeatureStatistics.from_features(other)
    )
    population_value = d * 0.3**2
    for point in diagnostics.curve:
        low, high = point.interval_95
        assert low < population_value < high < point.value or point.n_generated > 2000
        assert low < point.corrected_value < high
    widths = [high - low for low, high in (point.interval_95 for point in diagnostics.curve)]
    assert widths[0] > 2 * widths[-1]
    few = compute_diagnostics(
        FeatureStatistics.from_features(one[:100] + np.float32(0.3)), FeatureStatistics.from_features(other)
    ).curve
    assert [point.interval_95 is None for point in few] == [point.n_generated < 1.5 * d for point in few]
    bare = compute_diagnostics(
        FeatureStatistics.from_features(one), FeatureStatistics.from_features(other), compute_intervals=False
    )
    assert all(point.interval_95 is None for point in bare.curve)


@pytest.mark.slow
def test_precision_recall_and_related_metrics_have_a_plot(folders, tmp_path):
    scores = write_report(
        ScoreRequest(*folders, metrics=["fd", "precision", "recall", "density@prdc"], **OFFLINE), tmp_path / "p.html"
    )
    section = (tmp_path / "p.html").read_text().partition('aria-labelledby="fidelity"')[2].partition("</section>")[0]
    assert f"{100 * scores['precision'].value:.1f} % of the generated images" in section
    assert f"{100 * scores['recall'].value:.1f} % of the reference images" in section
    assert f"{scores['density@prdc'].value:.2f} times" in section
    assert section.count("<svg") == 1
    assert "Coverage" not in section


@pytest.mark.slow
def test_statistics_without_features_give_a_partial_report(folders, tmp_path):
    one, other = (frechet.collect(folder, **OFFLINE) for folder in folders)
    for name, statistics in (("one", one), ("other", other)):
        np.savez(tmp_path / f"{name}.npz", mu=statistics.mean, sigma=statistics.covariance)
    write_report(ScoreRequest(tmp_path / "one.npz", tmp_path / "other.npz"), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    for part in ("sample-size curve", "nearest reference images"):
        assert re.search(rf"<li>[^<]*{part}[^<]*missing[^<]*Pass", text)
    assert "Leading directions" in text
    assert 'id="raising"' not in text


@pytest.mark.slow
def test_per_class_scores_have_a_table(folders, toy, tmp_path):
    for class_name in ("dogs", "<b>cats"):
        for name, folder in zip(("one", "other"), folders, strict=True):
            (tmp_path / name / class_name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:4]:
                prefix = class_name[0] == "<"
                shutil.copy(path, tmp_path / name / class_name / f"{prefix}{path.name[:2].strip('<')}.png")
    scores = write_report(
        ScoreRequest(tmp_path / "one", tmp_path / "other", per_class=True, **toy), tmp_path / "page.html"
    )
    text = (tmp_path / "page.html").read_text()
    assert set(scores["fd"].per_class) == {"dogs", "<b>cats"}
    assert '<h2 id="classes">' in text
    assert "&lt;b&gt;cats" in text
    assert "<b>cats" not in text


def test_unsupported_reports_are_rejected(folders, tmp_path):
    for request, name, message in (
        (ScoreRequest(folders[0], **OFFLINE), "p.html", "no reference.*pass reference images"),
        (ScoreRequest(*folders, **OFFLINE), "p.txt", r"does not end in \.html"),
        (ScoreRequest(*folders, repeat=2, **OFFLINE), "p.html", "--repeat .* is 2; leave out"),
    ):
        with pytest.raises(RequestError, match=message):
            write_report(request, tmp_path / name)


def test_scores_are_described_in_sentences():
    random = np.random.default_rng(0)
    one, other = (
        FeatureStatistics.from_features(random.standard_normal((900, 8)).astype(np.float32)) for _ in range(2)
    )
    scores = list(frechet.score_statistics(one, other, metrics="fd,precision,vendi").values())
    text = " ".join(describe_scores(scores))
    assert "of FD is for the distance between the generated and the reference distribution" in text
    assert "of Precision is for the expected value" in text
    assert "No confidence interval for Vendi score: " in text
    assert "FD shows no significant difference" in text


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("size", [(1280, 900), (390, 800)], ids=["wide", "narrow"])
def test_in_a_browser(page, tmp_path, size):
    with chromium(tmp_path / "profile", size=size) as driver:
        driver.get(page.as_uri())
        assert get_requested_urls(driver) == [page.as_uri()]
        loaded = driver.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 0)")
        assert len(loaded) > 50
        assert all(loaded)
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        frame = driver.find_element("css selector", ".wide:has(.scores)")
        assert driver.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", frame)
        _require_sorting(driver)
        _require_zoom(driver)
        assert driver.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
        assert get_console_messages(driver) == []
        for dark in (False, True):
            set_color_scheme(driver, dark=dark)
            background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (max(map(int, re.findall(r"\d+", background)[:3])) < 60) == dark
            assert run_axe(driver) == {}


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("size", [(1280, 900), (400, 800)], ids=["wide", "narrow"])
def test_comparison_page_in_a_browser(tmp_path, size):
    random = np.random.default_rng(0)
    reference = random.standard_normal((300, 6)).astype(np.float32)
    names = ("baseline-resnet-50-epoch-0100", "ours, large", "ours, small")
    samples = {name: random.standard_normal((300, 6)).astype(np.float32) + i for i, name in enumerate(names)}
    runs = {name: frechet.score(x, reference, features=True, metrics="fd,precision") for name, x in samples.items()}
    (tmp_path / "page.html").write_text(render_comparison_page(compare_runs(runs)))
    with chromium(tmp_path / "profile", size=size) as driver:
        driver.get((tmp_path / "page.html").as_uri())
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        cut_off = "return [...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth).length"
        assert size[0] < 1280 or driver.execute_script(cut_off) == 0
        wrap = "return [...new Set([...document.querySelectorAll('th[scope=row]')].map(e => getComputedStyle(e).whiteSpace))]"
        assert driver.execute_script(wrap) == ["nowrap"]
        column = driver.find_element("css selector", "thead tr:nth-child(2) th button")  # "Value", the third column
        driver.execute_script("arguments[0].click()", column)
        driver.execute_script("arguments[0].click()", column)
        values = driver.execute_script(
            "return [...document.querySelector('tbody').rows].map(r => +r.cells[2].dataset.value)"
        )
        assert values == sorted(values, reverse=True)
        assert get_console_messages(driver) == []
        for dark in (False, True):
            set_color_scheme(driver, dark=dark)
            assert run_axe(driver) == {}


def _require_sorting(driver):
    button = driver.find_element("css selector", "section[aria-labelledby=influential] th:nth-child(3) button")
    values = "return [...document.querySelector('section[aria-labelledby=influential] tbody').rows].map(r => +r.cells[2].dataset.value)"
    before = driver.execute_script(values)
    assert before == sorted(before)
    button.send_keys("\ue007")  # by keyboard
    assert driver.execute_script(values) == before
    button.send_keys("\ue007")
    assert driver.execute_script(values) == before[::-1]
    state = "return arguments[0].closest('th').getAttribute('aria-sort')"
    assert driver.execute_script(state, button) == "descending"


def _require_zoom(driver):
    for selector, inside in (("button.thumbnail", "img"), ("button.plot", "svg")):
        driver.find_element("css selector", selector).send_keys("\ue007")
        shown = driver.find_element("css selector", f"dialog[open] {inside}")
        assert shown.size["width"] > 300
        assert driver.find_element("id", "zoom-name").text
        driver.find_element("css selector", "dialog button").click()
        assert not driver.find_elements("css selector", "dialog[open]")

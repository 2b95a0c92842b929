"""The page: what it shows, what it says is missing, and that nothing in it runs but its own script."""

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
from helpers import run
from PIL import Image

import frechet
from frechet.cli import score
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import leading_directions, optimal_coupling
from frechet.errors import OutputError, RequestError
from frechet.evaluation.run import evaluate
from frechet.execution.settings import Settings
from frechet.features.spec import FeatureSpec
from frechet.reports.diagnostics import compute_diagnostics
from frechet.reports.html import _format_command, describe_score, write_report
from frechet.reports.text import format_scores
from frechet.reports.thumbnails import ThumbnailCache
from frechet.statistics.feature_statistics import FeatureStatistics

pytest.importorskip("jinja2")
OFFLINE = {"extractor": "efficientnet-lite0"}
EVIL = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Photographs of two kinds; one of the first bears a name with markup, one of the second is in both."""
    folder = tmp_path_factory.mktemp("report")
    for name, image_ref in (("generated", "astronaut"), ("reference", "coffee")):
        (folder / name).mkdir()
        for i, tile in enumerate(make_tiles(f"skimage/data/{image_ref}.png", 20)):
            Image.fromarray(tile).save(folder / name / f"{i:02d}.png")
    (folder / "generated" / "03.png").rename(folder / "generated" / EVIL)
    shutil.copy(folder / "reference" / "07.png", folder / "generated" / "copy.png")
    return folder / "generated", folder / "reference"


@pytest.fixture(scope="module")
def page(sides, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    metrics = ["fd", "precision", "recall", "density", "coverage"]
    write_report(*sides, path, per_class=False, metrics=metrics, **OFFLINE)
    return path


def test_the_page_is_whole_and_small(page):
    text = page.read_text()
    assert page.stat().st_size < 6_000_000
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    for heading in (
        "How many images",
        "How good, and how varied",
        "comes from",
        "raise the Fréchet distance most",
        "lower the Fréchet distance most",
        "near to",
        "What made it",
    ):
        assert heading in text


def test_markup_in_a_name_is_text(page):
    text = page.read_text()
    assert EVIL not in text
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in text


def test_what_a_statistics_file_says_of_itself_is_text(tmp_path):
    """A formula for the plot, an escape for a terminal, and a name that is not Unicode."""
    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    spec = FeatureSpec(extractor="evil\x1b[31m$\\frac", layer="\x1b]0;title\x07\nFID: 0", preprocessing="<b>")
    side = replace(FeatureStatistics.from_features(x, spec=spec, label="caf\udce9"), labels=("caf\udce9/a.png",) * 60)
    other = FeatureStatistics.from_features(x + 1, spec=spec)
    scores = write_report(side, other, tmp_path / "page.html", metrics="fd,precision")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert r"caf\udce9" in text
    for shown in (text, format_scores(scores)):
        assert "\x1b" not in shown
        assert "\nFID: 0" not in shown
    assert "<b>" not in text


def test_the_scores_are_those_of_score(sides, page, tmp_path):
    scores = write_report(*sides, tmp_path / "again.html", **OFFLINE)
    expected = frechet.score(*sides, **OFFLINE)
    assert scores["fd"].value == expected["fd"].value
    assert scores["fd"].influence is None  # listed on the page; in the score only where it is asked for
    assert json.loads(scores.to_json())["scores"]["fd"]["value"] == expected["fd"].value
    with pytest.raises(OutputError, match="exists"):
        write_report(*sides, tmp_path / "again.html", **OFFLINE)


def test_the_command_on_the_page_gives_the_number_again(sides, page, tmp_path):
    command = re.search(r'<pre id="command"[^>]*>(.*?)</pre>', page.read_text())[1].replace("&#39;", "'")
    words = shlex.split(command)
    assert words[:2] == ["frechet", "score"]
    code, out, _ = run(*words[1:-1], tmp_path / "third.html", "--json")
    assert code == 0
    assert json.loads(out)["scores"]["fd"]["value"] == frechet.score(*sides, **OFFLINE)["fd"].value


def test_the_command_on_the_page_has_every_flag_that_made_it(sides, monkeypatch, tmp_path):
    """Read again by the command line's own parser, it asks for the same."""

    class Reached(Exception): ...

    def reached(_measured, _settings, command, _progress):
        raise Reached(command)

    monkeypatch.setattr("frechet.reports.html.evaluate", lambda *_, **__: None)
    monkeypatch.setattr("frechet.reports.html.render_report_page", reached)
    monkeypatch.chdir(tmp_path)
    flags = "--metrics fd,kid --splits 5,10 --interval none --explain 3 --seed 4 --num-images 20 --on-bad-image skip "
    flags += "--extractor efficientnet-lite0 --workers 1 --held-out other --report page.html --per-class --work-dir run"
    words = [*map(str, sides), *flags.split()]
    with pytest.raises(Reached) as told:
        score.command.main(words, standalone_mode=False)
    again = shlex.split(str(told.value))[2:]
    assert score.command.make_context("score", again).params == score.command.make_context("score", words).params


@pytest.mark.parametrize("way", ["raising", "lowering"])
def test_where_no_image_raises_or_lowers_the_distance_there_is_no_table_of_them(sides, tmp_path, monkeypatch, way):
    def one_way(*arguments, **options):
        found = compute_diagnostics(*arguments, **options)
        setattr(found, way, [])
        return found

    monkeypatch.setattr("frechet.reports.html.compute_diagnostics", one_way)
    write_report(*sides, tmp_path / "p.html", interval="none", **OFFLINE)
    page = (tmp_path / "p.html").read_text()
    assert ("images that raise it" in page, "images that lower it" in page) == (way != "raising", way != "lowering")


def test_the_command_hides_what_is_secret_and_names_what_is_no_path(tmp_path):
    told = _format_command(
        np.zeros(3), "https://me:secret@example.org/r.npz?token=1", tmp_path / "p.html", {"dims": 64, "seed": 0}
    )
    assert told == "frechet score '<ndarray>' 'https://example.org/r.npz?...' --dims 64 --report p.html"


def test_a_copy_is_seen_beside_the_image_it_copies(sides):
    one, other = (frechet.collect(side, **OFFLINE) for side in sides)
    found = compute_diagnostics(one, other)
    indices = {row.row: row.nearest[0] for row in (*found.raising, *found.lowering) if row.nearest}
    copy = 20  # "copy.png" sorts after 00 ... 19
    nearest = indices.get(copy)
    if nearest is None:  # it lowers the distance: no neighbours are listed there
        assert copy in [row.row for row in found.lowering]
    else:
        assert nearest.row == 7
        assert nearest.distance < 1e-3 * found.median_nn_distance


def _whole(features):
    """Statistics that kept all rows, as those of images have on a page."""
    return replace(FeatureStatistics.from_features(features), rows=features, indices=np.arange(len(features)))


def test_all_generated_images_are_looked_at_for_what_is_near(monkeypatch):
    """They come class by class: the last class may begin beyond any number of rows. And a copy is at distance 0."""
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((n, 4)).astype(np.float32) + np.float32(1000) for n in (6000, 200))
    x[5000:, 0] += 40
    y[150:, 0] += 40
    y[150:] = x[5900:5950]
    y[77, 1] += 30  # nothing is near to it
    found = compute_diagnostics(_whole(x), _whole(y), compute_intervals=False)
    gaps = np.linalg.norm(x[None].astype(float) - y[:, None], axis=2)
    own = np.sort(np.linalg.norm(y[None].astype(float) - y[:, None], axis=2), axis=1)[:, 1]
    assert found.median_nn_distance == pytest.approx(np.median(own), rel=1e-12)
    assert [row for row, _ in found.uncovered] == [
        i for i in np.argsort(-gaps.min(1))[:12] if gaps[i].min() > found.median_nn_distance
    ]
    assert found.uncovered[0][0] == 77
    assert all(near.distance == pytest.approx(gaps[row].min(), rel=1e-12) for row, near in found.uncovered)
    assert not any(row >= 150 for row, _ in found.uncovered)
    near = compute_diagnostics(_whole(y), _whole(x), compute_intervals=False).raising
    assert {one.nearest[0].distance for one in near if one.row >= 150} == {0.0}
    monkeypatch.setattr("frechet.reports.diagnostics._MAX_REFERENCE_ROWS", 50)
    found = compute_diagnostics(_whole(x), _whole(y), compute_intervals=False)
    assert found.median_nn_distance == pytest.approx(
        np.median(own[np.linspace(0, 199, 50).round().astype(int)]), rel=1e-12
    )
    assert "50 of the 200 reference images were looked at" in found.notes[0]


def test_nothing_is_missing_where_every_image_is_there():
    """No image is said to be far from all generated ones that has a copy among them."""
    x = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    found = compute_diagnostics(_whole(x), _whole(x[::2]), compute_intervals=False)
    assert found.median_nn_distance > 0
    assert found.uncovered == []
    assert found.notes == []


def test_neighbours_among_some_of_the_reference_are_told_as_such():
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((n, 4)).astype(np.float32) for n in (300, 5000))  # of 8 d images a sample is kept
    found = compute_diagnostics(_whole(x), FeatureStatistics.from_features(y), compute_intervals=False)
    assert "kept the features of 4,096 of its images" in found.notes[0]


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 12), (9, 300, 24), (300, 9, 24), (700, 800, 512)])
def test_directions_hold_the_whole_distance(n, m, d):
    """Their shares add up to d², but for what q has where p has nothing; and along an axis of a shift they find it."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n, d)), random.standard_normal((m, d))
    x[:, 3] += 5
    p, q = Gaussian.from_features(x), Gaussian.from_features(y)
    told = leading_directions(p, q, optimal_coupling(p, q), d)
    total = frechet_terms(p, q).total
    assert told.axes.shape == (min(n, d), d)
    assert abs(told.axes[0, 3]) > 0.9
    np.testing.assert_allclose(np.linalg.norm(told.axes, axis=1), 1, rtol=1e-9)
    if n > d:
        assert told.contributions.sum() == pytest.approx(total, rel=1e-9)
    else:
        assert told.contributions.sum() < total
    gap = (p.mean - q.mean) @ told.axes[0]
    assert told.contributions[0] > gap**2


@pytest.mark.parametrize("shuffle", [False, True])
def test_pictures_are_of_the_images_that_were_scored_or_absent(shuffle):
    """A loader that shuffles gives others at the same places another time."""
    torch = pytest.importorskip("torch")
    images = np.arange(16, dtype=np.uint8).repeat(8 * 8 * 3).reshape(16, 8, 8, 3) * 16

    def grey(pixels):
        return pixels.mean((2, 3))[:, :2] + torch.tensor([0.0, 1.0])

    grey.pixels = 8
    loader = torch.utils.data.DataLoader([(torch.from_numpy(i).permute(2, 0, 1), 0) for i in images], shuffle=shuffle)
    settings = Settings(extractor=grey, preprocessing="beit")  # 2x/255 - 1
    evaluation = evaluate(loader, images, settings, explain=1)
    album = ThumbnailCache(evaluation.statistics["generated"], evaluation.sources["generated"], settings)
    album.load(range(16))
    for row, feature in enumerate(evaluation.statistics["generated"].rows[:, 0]):
        if shuffle:
            assert album[row].data is None
        else:
            shown = Image.open(io.BytesIO(base64.b64decode(album[row].data.partition(",")[2])))
            assert np.asarray(shown).mean() == pytest.approx((feature + 1) * 255 / 2, abs=0.5)


def test_the_curve_ends_at_the_value(sides):
    one, other = (frechet.collect(side, **OFFLINE) for side in sides)
    found = compute_diagnostics(one, other)
    assert found.curve[-1].images == 21
    assert found.curve[-1].value == pytest.approx(frechet.score_statistics(one, other)["fd"].value, rel=1e-9)
    assert [point.images for point in found.curve] == sorted({point.images for point in found.curve})
    assert all(point.corrected is None for point in found.curve)  # 21 images of 1,280 dimensions


def test_the_last_point_of_the_curve_is_the_score_and_is_not_computed_again(tmp_path, monkeypatch):
    random, computed = np.random.default_rng(0), []
    sides = [random.standard_normal((n, 8)).astype(np.float32) for n in (300, 200)]
    real = frechet.reports.diagnostics.compute_frechet_interval

    def watched(generated, *rest):
        computed.append(generated.n)
        return real(generated, *rest)

    monkeypatch.setattr("frechet.reports.diagnostics.compute_frechet_interval", watched)
    score = write_report(*sides, tmp_path / "page.html", features=True)["fd"]
    assert computed
    assert 300 not in computed
    row = re.search(r'data-value="300">300</td>(.*?)</tr>', (tmp_path / "page.html").read_text())[1]
    shown = [float(text) for text in re.findall(r'data-value="([^"]+)"', row)]
    assert shown == [score.value, score.corrected_value, *score.interval_95]


def test_the_curve_is_not_that_of_another_distance(tmp_path):
    """An extrapolated distance lies on no curve of distances."""
    random = np.random.default_rng(0)
    sides = [random.standard_normal((n, 8)).astype(np.float32) for n in (300, 200)]
    scores = write_report(*sides, tmp_path / "page.html", features=True, metrics=["fd-infinity", "fd"])
    row = re.search(r'data-value="300">300</td>(.*?)</tr>', (tmp_path / "page.html").read_text())[1]
    assert float(re.search(r'data-value="([^"]+)"', row)[1]) == scores["fd"].value
    assert scores["fd"].interval_95
    assert f'data-value="{scores["fd"].corrected_value}"' in row


def test_the_curve_has_the_corrected_value_where_there_are_images_enough():
    """Two Gaussians a known distance apart: d shifts of 0.3 and equal covariances. Its band holds that, the plain value does not."""
    random, d = np.random.default_rng(0), 32
    one, other = (random.standard_normal((n, d)).astype(np.float32) for n in (4000, 3000))
    found = compute_diagnostics(
        FeatureStatistics.from_features(one + np.float32(0.3)), FeatureStatistics.from_features(other)
    )
    truth = d * 0.3**2
    for point in found.curve:
        low, high = point.interval_95
        assert low < truth < high < point.value or point.images > 2000
        assert low < point.corrected < high
    widths = [high - low for low, high in (point.interval_95 for point in found.curve)]
    assert widths[0] > 2 * widths[-1]
    few = compute_diagnostics(
        FeatureStatistics.from_features(one[:100] + np.float32(0.3)), FeatureStatistics.from_features(other)
    ).curve
    assert [point.interval_95 is None for point in few] == [point.images < 1.5 * d for point in few]
    bare = compute_diagnostics(
        FeatureStatistics.from_features(one), FeatureStatistics.from_features(other), compute_intervals=False
    )
    assert all(point.interval_95 is None for point in bare.curve)


def test_precision_and_its_kin_have_a_picture(sides, tmp_path):
    scores = write_report(*sides, tmp_path / "p.html", metrics=["fd", "precision", "recall", "density@prdc"], **OFFLINE)
    section = (tmp_path / "p.html").read_text().partition('aria-labelledby="prdc"')[2].partition("</section>")[0]
    assert f"{scores['precision'].value:.1%} of the generated images lie" in section
    assert f"{scores['recall'].value:.1%} of the reference images lie" in section
    assert f"has {scores['density@prdc'].value:.2f} times" in section
    assert section.count("<svg") == 1
    assert "Coverage" not in section


def test_statistics_alone_show_what_they_can(sides, tmp_path):
    one, other = (frechet.collect(side, **OFFLINE) for side in sides)
    for name, side in (("one", one), ("other", other)):
        np.savez(tmp_path / f"{name}.npz", mu=side.mean, sigma=side.covariance)
    write_report(tmp_path / "one.npz", tmp_path / "other.npz", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "the curve and the images that raise or lower the distance are missing" in text
    assert "kept no features" in text
    assert "Leading directions" in text
    assert "raise the Fréchet distance most" not in text


def test_classes_have_a_table(sides, tmp_path):
    for kind in ("dogs", "<b>cats"):
        for side, folder in zip(("one", "other"), sides, strict=True):
            (tmp_path / side / kind).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:4]:
                shutil.copy(path, tmp_path / side / kind / f"{kind[0] == '<'}{path.name[:2].strip('<')}.png")
    scores = write_report(tmp_path / "one", tmp_path / "other", tmp_path / "page.html", per_class=True, **OFFLINE)
    text = (tmp_path / "page.html").read_text()
    assert set(scores["fd"].per_class) == {"dogs", "<b>cats"}
    assert '<h2 id="classes">By class</h2>' in text
    assert "&lt;b&gt;cats" in text
    assert "<b>cats" not in text


def test_what_cannot_be_a_page_is_refused(sides, tmp_path):
    for arguments, message in (
        ((sides[0], None, tmp_path / "p.html"), "between two sides"),
        ((*sides, tmp_path / "p.txt"), "should end in .html"),
    ):
        with pytest.raises(RequestError, match=message):
            write_report(*arguments, **OFFLINE)
    with pytest.raises(RequestError, match="repeat is 2"):
        write_report(*sides, tmp_path / "p.html", repeat=2, **OFFLINE)


def test_an_interval_becomes_a_sentence():
    random = np.random.default_rng(0)
    one, other = (
        FeatureStatistics.from_features(random.standard_normal((900, 8)).astype(np.float32)) for _ in range(2)
    )
    sentence = describe_score(frechet.score_statistics(one, other)["fd"])
    assert "with 900 generated and 900 reference images; without the bias of few images it is" in sentence
    assert sentence.endswith("These images do not tell the two apart.")


@pytest.mark.parametrize("size", [(1280, 900), (390, 800)], ids=["wide", "narrow"])
def test_in_a_browser(page, tmp_path, size):
    with chromium(tmp_path / "profile", size=size) as driver:
        driver.get(page.as_uri())
        assert get_requested_urls(driver) == [page.as_uri()]
        loaded = driver.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 0)")
        assert len(loaded) > 50
        assert all(loaded)
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        _require_sorting(driver)
        _require_zoom(driver)
        assert driver.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
        assert get_console_messages(driver) == []
        for dark in (False, True):
            set_color_scheme(driver, dark=dark)
            background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (max(map(int, re.findall(r"\d+", background)[:3])) < 60) == dark
            assert run_axe(driver) == {}


def _require_sorting(driver):
    button = driver.find_element("css selector", "section[aria-labelledby=worst] th:nth-child(3) button")
    values = "return [...document.querySelectorAll('section[aria-labelledby=worst] tbody tr')].map(r => +r.cells[2].dataset.value)"
    before = driver.execute_script(values)
    assert before == sorted(before)
    button.send_keys("\ue007")  # by keyboard
    assert driver.execute_script(values) == before
    button.send_keys("\ue007")
    assert driver.execute_script(values) == before[::-1]
    state = "return arguments[0].closest('th').getAttribute('aria-sort')"
    assert driver.execute_script(state, button) == "descending"


def _require_zoom(driver):
    for selector, inside in (("button.picture", "img"), ("button.plot", "svg")):
        driver.find_element("css selector", selector).send_keys("\ue007")
        shown = driver.find_element("css selector", f"dialog[open] {inside}")
        assert shown.size["width"] > 300
        assert driver.find_element("id", "zoom-name").text
        driver.find_element("css selector", "dialog button").click()
        assert not driver.find_elements("css selector", "dialog[open]")

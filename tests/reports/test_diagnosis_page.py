"""The page and the text of a diagnosis, from results that are written down here."""

import pytest
from browser import chromium, get_console_messages, get_requested_urls, run_axe

from frechet.evaluation.diagnosis.result import CombinationScore, Diagnosis, Effect
from frechet.reports.diagnosis import format_diagnosis, render_diagnosis_page

SETTINGS = {
    "preprocessing": "tensorflow",
    "generated_crop": "none",
    "reference_crop": "adm(256)",
    "rounding": "none",
    "order": "as read",
    "num_images": "all",
}


def make_score(value, verdict, *, equivalent=(), **changes):
    return CombinationScore(
        settings={**SETTINGS, **changes},
        changes=tuple(changes),
        value=value,
        difference=value - 2.07,
        verdict=verdict,
        equivalent=tuple({**SETTINGS, **changes, **each} for each in equivalent),
    )


BASELINE = make_score(0.17, "far")
MATCH = make_score(2.068, "match", equivalent=[{"generated_crop": "adm(256)"}], reference_crop="torchvision(256)")
CLOSE = make_score(2.11, "close", preprocessing="clean", reference_crop="torchvision(256)")
EFFECTS = (
    Effect(axis="preprocessing", baseline="tensorflow", value="clean", change=0.05),
    Effect(axis="reference_crop", baseline="adm(256)", value="torchvision(256)", change=1.898, is_estimated=True),
)


def make_diagnosis(*combinations, effects=EFFECTS, interaction=-0.01):
    return Diagnosis(
        metric="fid",
        label="FID",
        claimed=2.07,
        tolerance=0.005,
        baseline=BASELINE,
        combinations=(*combinations, BASELINE),
        effects=effects,
        interaction=interaction,
        n_combinations=100,
        n_dropped=7,
        n_images=1234,
        n_inputs=5678,
        not_varied=("rounding: the images of <b>x</b>\x1b[2J have 8 bits",),
    )


def test_text_names_matches_close_ones_and_effects():
    text = format_diagnosis(make_diagnosis(MATCH, CLOSE))
    assert text.startswith("1 of 3 distinct combinations gives FID 2.07.")
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}
    assert rows["baseline"] == ["0.17", "-1.9", "tensorflow", "adm(256)"]
    assert rows["match"] == ["2.068", "-0.002", "tensorflow", "torchvision(256)"]
    assert rows["close"] == ["2.11", "+0.04", "clean", "torchvision(256)"]
    assert "settings do not change the pixels: generated crop adm(256)" in text
    assert "reference crop torchvision(256) instead of adm(256): +1.9 (estimated on a subset)" in text
    assert "preprocessing clean instead of tensorflow: +0.05" in text
    assert "beyond their sum: -0.01" in text
    assert "\x1b" not in text


def test_text_without_a_match():
    """The nearest combination is listed, but not offered as an explanation."""
    far = make_score(0.3, "far", preprocessing="clean")
    text = format_diagnosis(make_diagnosis(far))
    assert text.startswith("None of 2 distinct combinations gives FID 2.07 or comes within 5 % of it.")
    assert "clean" in text
    assert "instead of" not in text
    assert "another cause" in text


def test_json_has_the_verdict_and_every_combination():
    found = make_diagnosis(MATCH, CLOSE).to_dict()
    assert found["verdict"] == "match"
    assert [each["value"] for each in found["combinations"]] == [2.068, 2.11, 0.17]
    assert make_diagnosis(CLOSE).to_dict()["verdict"] == "close"
    assert make_diagnosis().to_dict()["verdict"] == "none"


def test_page_escapes_names_and_lists_everything():
    pytest.importorskip("jinja2")
    page = render_diagnosis_page(make_diagnosis(MATCH, CLOSE))
    assert "<b>x</b>" not in page
    assert "\x1b" not in page
    for text in (
        "2.068",
        "2.11",
        "1,234 images",
        "5,678 distinct inputs",
        "7 were dropped",
        "Explanation of the difference",
    ):
        assert text in page
    assert "Explanation of the difference" not in render_diagnosis_page(
        make_diagnosis(make_score(0.3, "far", order="random"))
    )


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("size", [(1280, 900), (400, 900)])
def test_page_in_a_browser(tmp_path, size):
    pytest.importorskip("jinja2")
    path = tmp_path / "page.html"
    path.write_text(render_diagnosis_page(make_diagnosis(MATCH, CLOSE)))
    with chromium(tmp_path / "profile", size=size) as driver:
        driver.get(path.as_uri())
        assert get_console_messages(driver) == []
        assert get_requested_urls(driver) == [path.as_uri()]
        assert driver.execute_script("return document.documentElement.scrollWidth") <= size[0]
        driver.find_element("xpath", "(//table)[1]//button[text()='value']").click()
        cells = driver.find_elements("xpath", "(//table)[1]/tbody/tr/td[1]")
        assert [cell.text for cell in cells] == ["0.17", "2.068", "2.11"]
        assert run_axe(driver) == {}

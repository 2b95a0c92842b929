"""`frechet compare`: what differs, what is noise, what is not ranked, and names that would do harm."""

import csv
import io
import json
import re

import numpy as np
import pytest
from helpers import run

import frechet
from frechet.errors import MismatchError, RequestError
from frechet.features.spec import FeatureSpec
from frechet.reports.comparison_formats import FORMATTERS
from frechet.reports.multiple_testing import (
    Estimate,
    compact_letter_display,
    holm_correction,
    standard_error_of_difference,
    two_sided_p_value,
)
from frechet.reports.run_comparison import compare_runs
from frechet.reports.run_files import Run, read_runs
from frechet.statistics.feature_statistics import FeatureStatistics

D, N = 24, 1500
SPEC = {"extractor": "efficientnet-lite0", "layer": "1280", "weights": "0" * 64, "is_official": True}
SPEC |= {"preprocessing": "efficientnet-lite0", "precision": "float32"}
EVIL = '=cmd|"/c calc"!A1 <img src=x onerror=alert(1)> \\input{x} $&%#_{}~^ [a](b)\x1b[31m\n`|'


def side(random, shift=0.0, n=N, **spec):
    features = random.standard_normal((n, D)) * np.linspace(0.2, 1, D)
    features[:, 0] += shift
    return FeatureStatistics.from_features(features.astype(np.float32), spec=FeatureSpec(**(SPEC | spec)))


def run_of(name, generated, reference, **options):
    found = json.loads(frechet.score_statistics(generated, reference, **options).to_json())
    return Run(name=name, scores=found["scores"], provenance=found["provenance"])


@pytest.fixture(scope="module")
def checkpoints():
    """Ten against one reference: d² is 0.25 for the even ones and 0.49 for the odd ones."""
    random = np.random.default_rng(0)
    reference = side(random)
    return [run_of(f"step-{i}", side(random, 0.7 if i % 2 else 0.5), reference) for i in range(10)]


def test_five_of_ten_checkpoints_differ_and_it_says_so_of_them_alone(checkpoints):
    (found,) = compare_runs(checkpoints)
    assert found.shared_reference
    for i, row in enumerate(found.rows):
        expected = ("worse than the best",) if i % 2 else ("within noise of the best", "best")
        assert row.verdict in expected
        assert row.letters == ("b" if i % 2 else "a")
        if i % 2:
            assert row.difference_95[0] < 0.49 - 0.25 < row.difference_95[1]


def test_a_shared_reference_does_not_count_as_noise_of_a_difference():
    """A reference of 300 images errs by as much as all else together: the same for both."""
    random = np.random.default_rng(1)
    differences, errors, alone = [], [], []
    for _ in range(60):
        reference = side(random, n=300)
        one, other = (frechet.score_statistics(side(random, 0.5), reference)["fd"] for _ in range(2))
        estimates = [Estimate(s.corrected_value, s.variance_components, s.reference_groups) for s in (one, other)]
        differences.append(one.corrected_value - other.corrected_value)
        errors.append(standard_error_of_difference(*estimates, shared_reference=True))
        alone.append(standard_error_of_difference(*estimates, shared_reference=False))
    assert np.std(differences) == pytest.approx(np.median(errors), rel=0.25)  # 60 draws know a deviation to 9 %
    assert np.median(errors) < 0.6 * np.median(alone)


def test_a_reference_that_pulls_two_ways_is_noise_though_it_is_shared():
    """Two that are off in different directions: the reference's mean helps one where it does not help the other."""
    random = np.random.default_rng(2)
    differences, errors = [], []
    for _ in range(60):
        reference, other = side(random, n=300), side(random, 0.0)
        moved = FeatureStatistics.from_features(
            (other.rows + np.float32(0.5) * np.eye(D)[-1]).astype(np.float32), spec=other.spec
        )
        scores = [frechet.score_statistics(s, reference)["fd"] for s in (side(random, 0.5), moved)]
        estimates = [Estimate(s.corrected_value, s.variance_components, s.reference_groups) for s in scores]
        differences.append(scores[0].corrected_value - scores[1].corrected_value)
        errors.append(standard_error_of_difference(*estimates, shared_reference=True))
    assert np.std(differences) == pytest.approx(np.median(errors), rel=0.25)


def test_holm_by_hand():
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx(
        [0.03, 0.06, 0.06]
    )  # 3 x 0.01, 2 x 0.03, 1 x 0.04 raised to 0.06
    assert holm_correction([0.9, 0.8]) == [1.0, 1.0]
    assert two_sided_p_value(1.959964, 1.0) == pytest.approx(0.05, abs=1e-6)
    assert (two_sided_p_value(0.0, 0.0), two_sided_p_value(1.0, 0.0)) == (1.0, 0.0)


def test_letters_by_hand():
    """Piepho 2004: treatments that share a letter are not told apart, and no letter more than is needed."""
    assert compact_letter_display([0, 1, 2], []) == {0: "a", 1: "a", 2: "a"}
    assert compact_letter_display([2, 0, 1], [(0, 1), (2, 1)]) == {2: "a", 0: "a", 1: "b"}
    assert compact_letter_display([0, 1, 2], [(0, 2)]) == {0: "a", 1: "ab", 2: "b"}
    assert compact_letter_display(list(range(30)), [(i, j) for i in range(30) for j in range(i)])[27] == "b1"


@pytest.mark.parametrize("what", ["preprocessing", "precision", "weights", "extractor", "layer"])
def test_what_was_made_differently_is_not_ranked(checkpoints, what):
    one = checkpoints[0]
    other = Run(name="other", scores=one.scores, provenance={**one.provenance, what: "something"})
    with pytest.raises(MismatchError, match=f"not ranked: {what} .* \\(step-0\\) and something \\(other\\)"):
        compare_runs([one, other])


def test_other_references_are_told_and_count_as_noise(checkpoints):
    random = np.random.default_rng(3)
    (found,) = compare_runs([checkpoints[0], run_of("other", side(random, 0.5), side(random))])
    (same,) = compare_runs([checkpoints[0], checkpoints[2]])
    assert not found.shared_reference
    assert "the references differ" in found.notes[0]
    widths = [next(r.difference_95 for r in c.rows if r.difference_95) for c in (found, same)]
    assert widths[0][1] - widths[0][0] > 1.05 * (widths[1][1] - widths[1][0])


def test_values_without_intervals_are_ranked_only_at_one_size():
    random = np.random.default_rng(4)
    reference = side(random)
    runs = [run_of(str(n), side(random, n=n), reference, interval="none") for n in (1000, 1000, 1001)]
    (found,) = compare_runs(runs[:2])
    assert sorted(row.verdict or "" for row in found.rows) == ["", "best value"]
    assert "nobody knows which differences are noise" in found.notes[0]
    (found,) = compare_runs(runs)
    assert [row.verdict for row in found.rows] == [None] * 3
    assert any("not ranked" in note for note in found.notes)


def test_one_run_and_runs_without_a_common_metric_are_refused(checkpoints):
    with pytest.raises(RequestError, match="at least two"):
        compare_runs(checkpoints[:1])
    other = Run(name="x", scores={"fid": checkpoints[0].scores["fd"]}, provenance=checkpoints[0].provenance)
    with pytest.raises(RequestError, match="no metric in common: step-0 has fd; x has fid"):
        compare_runs([checkpoints[0], other])


@pytest.fixture
def evil(checkpoints):
    return compare_runs([Run(name=EVIL, scores=run.scores, provenance=run.provenance) for run in checkpoints[:2]])


def test_a_terminal_gets_no_control_characters(evil):
    text = FORMATTERS["text"](evil)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert len(text.splitlines()) == 2 + 2 + 1  # title, head, rows, legend


def test_a_spreadsheet_gets_no_formula(evil):
    rows = list(csv.DictReader(io.StringIO(FORMATTERS["csv"](evil))))
    assert rows[0]["run"].startswith("'=cmd")
    assert float(rows[0]["value"]) > 0
    assert "\x1b" not in rows[0]["run"]


def test_markdown_and_latex_get_no_markup(evil):
    (line, _) = [line for line in FORMATTERS["markdown"](evil).splitlines() if "cmd" in line]
    assert "\\<img src=x onerror=alert(1)\\>" in line
    assert line.replace("\\|", "").count("|") == 11  # ten columns
    latex = next(line for line in FORMATTERS["latex"](evil).splitlines() if "cmd" in line)
    assert r"\textbackslash{}input\{x\} \$\&\%\#\_\{\}\textasciitilde{}\textasciicircum{}" in latex
    assert latex.replace(r"\&", "").count("&") == 9


def test_json_holds_everything(checkpoints):
    found = json.loads(FORMATTERS["json"](compare_runs(checkpoints)))["fd"]
    assert len(found["rows"]) == 10
    assert found["rows"][1]["adjusted_p_value"] < 0.05


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds no scores"),
        ('{"scores": {}, "provenance": {}}', "holds no scores"),
        ('{"scores": {"nonsense": {}}, "provenance": {}}', "does not know"),
        ('{"scores": {"fd": {"label": "FD", "value": NaN}}, "provenance": {}}', "is not what frechet score writes"),
        ('{"scores": {"fd": {"label": "FD", "value": 1' + "0" * 400 + '}}, "provenance": {}}', "is not what frechet score writes"),
        ('{"scores": {"fd": {"label": "FD", "value": 1' + "0" * 5000 + '}}, "provenance": {}}', "is not JSON"),
        ('{"scores": {"fd": {"label": "FD", "value": 1, "standard_error": -1}}, "provenance": {}}', "is not what"),
        ('{"scores": {"fd": {"label": "FD", "value": 1, "variances": [1, -1]}}, "provenance": {}}', "is not what"),
        ('{"scores": {"fd": {"label": "FD", "value": 1, "reference_groups": [1]}}, "provenance": {}}', "is not what"),
        ('{"scores": {"fd": {"label": "FD", "value": 1}}, "provenance": {"reference": [1]}}', "what its reference images were"),
        ('{"scores": {"fd": {"label": "FD", "value": 1}}, "provenance": {"reference": {"moments": 1}}}', "reference images were"),
        ('{"scores": {"fd": {"label": "FD", "value": 1}}, "provenance": {"generated": {"n": [1]}}}', "no number of gen"),
        ('{"scores": {"fd": {"label": "FD", "value": 1}}, "provenance": {"reference": {"n": "1"}}}', "no number"),
    ],
)  # fmt: skip
def test_files_that_are_no_runs_are_refused(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RequestError, match=message):
        read_runs([tmp_path / "run.json"])
    with pytest.raises(RequestError, match="no such file"):
        read_runs([tmp_path / "absent.json"])


def test_the_command_line(checkpoints, tmp_path):
    paths = []
    for one in checkpoints[:3]:
        paths.append(tmp_path / f"{one.name}.json")
        paths[-1].write_text(json.dumps({"scores": one.scores, "provenance": one.provenance}))
    code, out, _ = run("compare", *paths)
    assert code == 0
    assert "worse than the best" in out.splitlines()[3]
    assert run("compare", *paths, "--format", "latex", "--output", tmp_path / "t.tex")[:2] == (0, "")
    assert "\\toprule" in (tmp_path / "t.tex").read_text()
    assert run("compare", *paths, "--output", tmp_path / "t.tex")[0] == 2
    code, _, err = run("compare", *paths, "--format", "nonsense")
    assert (code, "no format 'nonsense'" in err) == (2, True)


def test_one_file_given_twice_is_refused_and_its_copy_is_told(checkpoints, tmp_path):
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_text(json.dumps({"scores": checkpoints[0].scores, "provenance": checkpoints[0].provenance}))
    other.write_bytes(one.read_bytes())
    (tmp_path / "link.json").symlink_to("one.json")
    for again in (one, tmp_path / "link.json"):
        with pytest.raises(RequestError, match=f"{again} is the same file as {one}; give each run once"):
            read_runs([one, other, again])
    (found,) = compare_runs([*read_runs([one, other]), checkpoints[1]])
    assert "one and other are of the same generated images: one run under several names?" in found.notes
    (found,) = compare_runs(checkpoints[:3])
    assert not any("same generated" in note for note in found.notes)


def with_scores(run, **scores):
    return Run(name=run.name, scores=scores, provenance=run.provenance)


def test_a_metric_that_a_run_lacks_is_a_dash(checkpoints):
    """Nobody is dropped: a run without the metric has a row of dashes, a metric of one run alone has its table."""
    fd = [run.scores["fd"] for run in checkpoints[:3]]
    runs = [
        with_scores(checkpoints[0], fd=fd[0], vendi=fd[0]),
        with_scores(checkpoints[1], vendi=fd[1], mmd=fd[1]),
        with_scores(checkpoints[2], fd=fd[2]),
    ]
    found = compare_runs(runs)
    assert [(one.metric, len(one.rows)) for one in found] == [("fd", 3), ("vendi", 3), ("mmd", 3)]
    assert [row.value for row in found[0].rows] == [fd[0]["value"], None, fd[2]["value"]]
    assert found[0].rows[0].difference_95 or found[0].rows[2].difference_95  # the other two are compared as ever
    assert found[0].notes[-1] == "without this metric: step-1"
    assert found[2].rows[1].verdict is None  # alone, it is not the best of anything
    lines = FORMATTERS["text"](found).splitlines()
    assert lines[3].split() == ["step-1", *["-"] * 9]
    assert "| step\\-1 | - |" in FORMATTERS["markdown"](found) or "| step-1 | - |" in FORMATTERS["markdown"](found)
    rows = list(csv.DictReader(io.StringIO(FORMATTERS["csv"](found))))
    assert (rows[1]["run"], rows[1]["value"]) == ("step-1", "")
    assert json.loads(FORMATTERS["json"](found))["fd"]["rows"][1]["value"] is None


def test_a_gap_in_the_curve(checkpoints):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from frechet.reports.html import render_comparison_page

    fd = checkpoints[0].scores["fd"]
    runs = [
        with_scores(checkpoints[0], fd=fd),
        with_scores(checkpoints[1], vendi=fd),
        with_scores(checkpoints[2], fd=fd),
    ]
    page = render_comparison_page(compare_runs(runs))
    assert page.count("<section") == 2
    assert '<td class="number" data-value="-">-</td>' in page


def test_a_picture_holds_one_kind_of_value(checkpoints):
    """A corrected value of 0.3 is not drawn beside another run's plain 18.3, to which it is not compared either."""
    pytest.importorskip("matplotlib")
    from frechet.reports.plots import render_runs

    sure = checkpoints[0].scores["fd"] | {"value": 17.5, "corrected_value": 0.3, "interval_95": [0.1, 0.8]}
    plain = sure | {"value": 18.3, "corrected_value": None, "standard_error": None, "interval_95": None}

    def drawn(*scores):
        (found,) = compare_runs([with_scores(run, fd=fd) for run, fd in zip(checkpoints, scores, strict=False)])
        image_ref = render_runs(found)
        return [float(text) for text in re.findall(r">([\d.]+)</text>", image_ref)], ", corrected<" in image_ref

    ticks, corrected = drawn(sure, plain)
    assert not corrected
    assert 17 < min(ticks) < max(ticks) < 19
    ticks, corrected = drawn(sure, sure)
    assert corrected
    assert 0 <= min(ticks) < max(ticks) < 1


@pytest.mark.parametrize("interval", ["auto", "none"])
def test_runs_of_one_value_share_the_first_place(checkpoints, interval):
    fd = dict(checkpoints[0].scores["fd"])
    if interval == "none":
        fd |= {"corrected_value": None, "standard_error": None, "interval_95": None}
    (found,) = compare_runs([with_scores(run, fd=fd) for run in checkpoints[:3]])
    assert {row.verdict for row in found.rows} == {"best" if interval == "auto" else "best value"}
    assert {row.difference for row in found.rows} == {0}


@pytest.mark.parametrize(("metrics", "told"), [("", "''"), ([], r"\[\]"), ("fd,", "'fd,'"), ([""], r"\[''\]")])
def test_no_metric_is_no_wish(metrics, told):
    random = np.random.default_rng(0)
    one, other = side(random, n=40), side(random, n=40)
    for ask in (frechet.score_statistics, frechet.score):
        with pytest.raises(RequestError, match=f"metrics is {told}; expected names"):
            ask(one, other, metrics=metrics)
    assert list(frechet.score_statistics(one, other, metrics="fd, kid")) == ["fd", "kid"]


@pytest.mark.parametrize("explain", [2.5, "2", -1])
def test_a_part_of_an_image_cannot_be_listed(explain):
    random = np.random.default_rng(0)
    for ask in (frechet.score_statistics, frechet.score):
        with pytest.raises(RequestError, match=f"explain is {explain!r}; expected the number of images"):
            ask(side(random, n=40), side(random, n=40), explain=explain)


@pytest.mark.parametrize(
    ("flag", "options"), [("--num-images 10", {"num_images": 10}), ("--weights w", {"weights": "w"})]
)
def test_what_is_of_images_is_refused_of_features_by_its_own_name(flag, options):
    features = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32)
    with pytest.raises(RequestError, match=f"^{flag} is of images") as caught:
        frechet.score(features, features, features=True, **options)
    assert ("weights" in str(caught.value)) == ("weights" in options)

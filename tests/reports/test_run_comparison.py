"""Comparison of runs: significance, ranking, rejected runs, file validation and escaping of names."""

import csv
import doctest
import io
import json
import re
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from helpers import run
from toy import PIXELS, TOY

import frechet
from frechet.distances.difference import Estimate, standard_error_of_difference
from frechet.errors import MismatchError, RequestError
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.features.spec import FeatureSpec
from frechet.images.sources.registry import open_source
from frechet.reports import run_comparison
from frechet.reports.comparison_formats import FORMATTERS, build_tables
from frechet.reports.multiple_testing import compact_letter_display, holm_correction, two_sided_p_value
from frechet.reports.run_comparison import compare_runs
from frechet.reports.run_files import Run, read_runs
from frechet.results import Score, Scores
from frechet.statistics.feature_statistics import FeatureStatistics

D, N = 24, 1500
SPEC = {"extractor": "efficientnet-lite0", "layer": "1280", "weights": "0" * 64, "is_official": True}
SPEC |= {"preprocessing": "efficientnet-lite0", "precision": "float32"}
EVIL = '=cmd|"/c calc"!A1 <img src=x onerror=alert(1)> \\input{x} $&%#_{}~^ [a](b)\x1b[31m\n`|'


def make_statistics(random, shift=0.0, n=N, **spec):
    features = random.standard_normal((n, D)) * np.linspace(0.2, 1, D)
    features[:, 0] += shift
    return FeatureStatistics.from_features(features.astype(np.float32), spec=FeatureSpec(**(SPEC | spec)))


def make_run(name, generated, reference, **options):
    content = json.loads(frechet.score_statistics(generated, reference, **options).to_json())
    return Run(name=name, scores=content["scores"], provenance=content["provenance"])


@pytest.fixture(scope="module")
def checkpoints():
    """Ten runs with one reference; the distance is 0.25 for even and 0.49 for odd steps."""
    random = np.random.default_rng(0)
    reference = make_statistics(random)
    return [make_run(f"step-{i}", make_statistics(random, 0.7 if i % 2 else 0.5), reference) for i in range(10)]


def test_only_true_differences_are_significant(checkpoints):
    (comparison,) = compare_runs(checkpoints)
    assert comparison.shared_reference
    assert [row.corrected_value for row in comparison.rows] == sorted(row.corrected_value for row in comparison.rows)
    assert {row.run for row in comparison.rows[:5]} == {f"step-{i}" for i in range(0, 10, 2)}
    for i, row in enumerate(comparison.rows):
        assert row.verdict == ("best" if i == 0 else "within noise of the best" if i < 5 else "worse than the best")
        assert row.compact_letters == ("a" if i < 5 else "b")
        if i >= 5:
            assert row.difference_95[0] < 0.49 - 0.25 < row.difference_95[1]


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_sampling_error_of_a_shared_reference_cancels_in_differences():
    """The sampling error of a reference of 300 images dominates each score, but is the same for both."""
    random = np.random.default_rng(1)
    differences, errors, alone = [], [], []
    for _ in range(60):
        reference = make_statistics(random, n=300)
        one, other = (frechet.score_statistics(make_statistics(random, 0.5), reference)["fd"] for _ in range(2))
        estimates = [Estimate(s.corrected_value, s.variance_components, None, s.reference_groups) for s in (one, other)]
        differences.append(one.corrected_value - other.corrected_value)
        errors.append(standard_error_of_difference(*estimates, shared_reference=True))
        alone.append(standard_error_of_difference(*estimates, shared_reference=False))
    assert np.std(differences) == pytest.approx(
        np.median(errors), rel=0.25
    )  # 60 draws estimate a standard deviation to 9 %
    assert np.median(errors) < 0.6 * np.median(alone)


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_sampling_error_of_a_shared_reference_counts_if_it_does_not_cancel():
    """Two runs shifted in different directions: an error of the reference mean affects them differently."""
    random = np.random.default_rng(2)
    differences, errors = [], []
    for _ in range(60):
        reference, other = make_statistics(random, n=300), make_statistics(random, 0.0)
        moved = FeatureStatistics.from_features(
            (other.rows + np.float32(0.5) * np.eye(D)[-1]).astype(np.float32), spec=other.spec
        )
        scores = [frechet.score_statistics(s, reference)["fd"] for s in (make_statistics(random, 0.5), moved)]
        estimates = [Estimate(s.corrected_value, s.variance_components, None, s.reference_groups) for s in scores]
        differences.append(scores[0].corrected_value - scores[1].corrected_value)
        errors.append(standard_error_of_difference(*estimates, shared_reference=True))
    assert np.std(differences) == pytest.approx(np.median(errors), rel=0.25)


def make_paired_runs(random):
    """Return two runs whose images were generated from the same latents, and the scores of both."""
    latents, reference = random.standard_normal((N, D)), make_statistics(random, n=6000)
    runs = []
    for shift in (0.5, 0.6):
        features = (latents + 0.2 * random.standard_normal((N, D))) * np.linspace(0.2, 1, D)
        features[:, 0] += shift
        generated = FeatureStatistics.from_features(features.astype(np.float32), spec=FeatureSpec(**SPEC))
        runs.append(make_run(f"shift {shift}", generated, reference))
    return runs


@pytest.mark.slow
def test_errors_that_paired_runs_have_in_common_cancel_in_differences():
    random = np.random.default_rng(3)
    differences, errors, alone = [], [], []
    for _ in range(60):
        runs = make_paired_runs(random)
        one, other = (run.scores["fd"] for run in runs)
        differences.append(other["corrected_value"] - one["corrected_value"])
        estimates = [
            Estimate(s["corrected_value"], s["variance_components"], s["generated_groups"], s["reference_groups"])
            for s in (one, other)
        ]
        errors.append(standard_error_of_difference(*estimates, shared_reference=True, paired_runs=True))
        alone.append(standard_error_of_difference(*estimates, shared_reference=True))
    assert np.std(differences) == pytest.approx(np.median(errors), rel=0.25)  # 60 draws estimate it to 9 %
    assert np.median(errors) < 0.6 * np.median(alone)


def test_paired_runs_are_compared_with_a_smaller_standard_error(tmp_path):
    runs = make_paired_runs(np.random.default_rng(4))
    (unpaired,), (paired,) = compare_runs(runs), compare_runs(runs, paired_runs=True)
    widths = [np.diff(comparison.rows[1].difference_95)[0] for comparison in (unpaired, paired)]
    assert widths[1] < 0.6 * widths[0]
    assert paired.rows[1].difference == unpaired.rows[1].difference


@pytest.mark.parametrize(("changes", "parts"), [({"n": 1200}, ("1200", str(N))), ({"seed": 3}, ("seed 3", "seed 0"))])
def test_runs_of_other_images_cannot_be_paired(checkpoints, tmp_path, changes, parts):
    one, other = checkpoints[:2]
    generated = {**other.provenance["generated"], **changes}
    other = Run(name=other.name, scores=other.scores, provenance={**other.provenance, "generated": generated})
    with pytest.raises(RequestError) as caught:
        compare_runs([one, other], paired_runs=True)
    assert all(part in str(caught.value) for part in (*parts, "step-0", "step-1", "--paired-runs"))
    assert compare_runs([one, other])
    paths = []
    for each in (one, other):
        paths.append(tmp_path / f"{each.name}.json")
        content = {"schema": 2, "scores": each.scores, "provenance": each.provenance}
        paths[-1].write_text(json.dumps(content))
    code, _, err = run("compare", *paths, "--paired-runs")
    assert code == 2
    assert parts[0] in err


def test_holm_correction_by_hand():
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx(
        [0.03, 0.06, 0.06]
    )  # 3 x 0.01, 2 x 0.03, 1 x 0.04 raised to 0.06
    assert holm_correction([0.9, 0.8]) == [1.0, 1.0]
    assert two_sided_p_value(1.959964, 1.0) == pytest.approx(0.05, abs=1e-6)
    assert (two_sided_p_value(0.0, 0.0), two_sided_p_value(1.0, 0.0)) == (1.0, 0.0)


def test_compact_letter_display_by_hand():
    """Piepho 2004: treatments that share a letter do not differ significantly, with as few letters as possible."""
    assert compact_letter_display([0, 1, 2], []) == {0: "a", 1: "a", 2: "a"}
    assert compact_letter_display([2, 0, 1], [(0, 1), (2, 1)]) == {2: "a", 0: "a", 1: "b"}
    assert compact_letter_display([0, 1, 2], [(0, 2)]) == {0: "a", 1: "ab", 2: "b"}
    assert compact_letter_display(list(range(30)), [(i, j) for i in range(30) for j in range(i)])[27] == "b1"


@pytest.mark.parametrize("name", ["preprocessing", "precision", "weights", "extractor", "layer"])
def test_runs_with_different_settings_are_rejected(checkpoints, name):
    one = checkpoints[0]
    other = Run(name="other", scores=one.scores, provenance={**one.provenance, name: "something"})
    with pytest.raises(MismatchError, match=f"{name} .* \\(step-0\\) and something \\(other\\).*same settings"):
        compare_runs([one, other])


def test_settings_are_those_of_the_metrics_that_both_runs_have(checkpoints):
    """The second extractor of a run has settings of its own; a run of this extractor alone has them in common."""
    one = checkpoints[0]
    fd = one.scores["fd"]
    both = {"fid": fd, "fd-dinov2": {**fd, "provenance": {"extractor": "dinov2-vitl14", "preprocessing": "imagenet"}}}
    several = Run(name="several", scores=both, provenance=one.provenance)
    alone = {**one.provenance, "extractor": "dinov2-vitl14", "preprocessing": "imagenet"}
    same = Run(name="same", scores={"fd-dinov2": fd}, provenance=alone)
    compare_runs([several, same])
    other = Run(name="other", scores={"fd-dinov2": fd}, provenance={**alone, "preprocessing": "imagenet-crop"})
    with pytest.raises(MismatchError, match=r"preprocessing imagenet \(several\) and imagenet-crop \(other\)"):
        compare_runs([several, other])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_settings_of_a_metric_are_compared_between_all_runs_that_have_it(checkpoints, order):
    """The first run need not have the metric in which the others differ."""
    fd, provenance = checkpoints[0].scores["fd"], checkpoints[0].provenance
    own = [{**fd, "provenance": {"extractor": name}} for name in ("one", "another", "pixels")]
    runs = [
        Run(name="alone", scores={"psnr": own[2]}, provenance=provenance),
        Run(name="first", scores={"fd": own[0], "psnr": own[2]}, provenance=provenance),
        Run(name="second", scores={"psnr": own[2], "fd": own[1]}, provenance=provenance),
    ]
    with pytest.raises(MismatchError, match=r"ranked: extractor (one|another) \((first|second)\) and (one|another) "):
        compare_runs([runs[i] for i in order])
    compare_runs(runs[:2])


def make_run_of_extractors(name, score, references):
    """Return a run of several extractors, the first of which is that of the run; each sees the references differently."""
    metrics, records = list(references), []
    for metric, moments in references.items():
        generated = {"moments": [len(name), len(metric)], "n": N, "seed": 0}
        reference = {"moments": moments, "n": N, "label": f"reference of {metric}"}
        records.append({"extractor": metric, "generated": generated, "reference": reference})
    scores = {key: {**score, "provenance": record} for key, record in zip(metrics[1:], records[1:], strict=True)}
    return Run(name=name, scores={metrics[0]: dict(score), **scores}, provenance=records[0])


def test_references_and_images_are_those_of_the_metric(checkpoints):
    fd, fid, same, other = checkpoints[0].scores["fd"], [3.0, 4.0], [5.0, 6.0], [50.0, 60.0]
    one = make_run_of_extractors("a", fd, {"fid": fid, "fd-dinov2": same})
    reordered = make_run_of_extractors("b", fd, {"fd-dinov2": same, "fid": fid})
    for comparison in compare_runs([one, reordered]):
        assert comparison.shared_reference
        assert comparison.reference == f"reference of {comparison.metric}"
        assert comparison.notes == ("a and b were scored on identical generated images; they may be the same run.",)
    different = make_run_of_extractors("bb", fd, {"fid": fid, "fd-dinov2": other})
    shared, apart = compare_runs([one, different])
    assert (shared.shared_reference, apart.shared_reference, apart.reference) == (True, False, None)
    assert shared.notes == ()
    assert "The references differ" in apart.notes[0]


def test_images_of_paired_runs_are_those_of_the_metric(checkpoints):
    fd, fid = checkpoints[0].scores["fd"], [3.0, 4.0]
    one, other = (make_run_of_extractors(name, fd, {"fid": fid, "fd-dinov2": fid}) for name in ("one", "other"))
    assert compare_runs([one, other], paired_runs=True)
    other.scores["fd-dinov2"]["provenance"]["generated"]["seed"] = 7
    with pytest.raises(RequestError, match="one: 1500 images, seed 0, other: 1500 images, seed 7"):
        compare_runs([one, other], paired_runs=True)


def test_different_references_are_noted_and_widen_intervals(checkpoints):
    random = np.random.default_rng(3)
    (comparison,) = compare_runs(
        [checkpoints[0], make_run("other", make_statistics(random, 0.5), make_statistics(random))]
    )
    (same,) = compare_runs([checkpoints[0], checkpoints[2]])
    assert not comparison.shared_reference
    assert "The references differ" in comparison.notes[0]
    widths = [next(r.difference_95 for r in c.rows if r.difference_95) for c in (comparison, same)]
    assert widths[0][1] - widths[0][0] > 1.05 * (widths[1][1] - widths[1][0])


def test_values_without_intervals_are_ranked_only_at_equal_sample_sizes():
    random = np.random.default_rng(4)
    reference = make_statistics(random)
    runs = [make_run(str(n), make_statistics(random, n=n), reference, interval="none") for n in (1000, 1000, 1001)]
    (comparison,) = compare_runs(runs[:2])
    assert sorted(row.verdict or "" for row in comparison.rows) == ["", "best value"]
    assert "1000 and 1000 have no confidence interval" in comparison.notes[0]  # every such run is named
    shown = FORMATTERS["text"]([comparison]).splitlines()[2].split()[2]
    assert shown == f"{comparison.rows[0].value:.4g}"  # as frechet score prints it
    (comparison,) = compare_runs(runs)
    assert [(row.run, row.verdict) for row in comparison.rows] == [
        (run.name, None) for run in runs
    ]  # in the order given
    assert any("not ranked" in note for note in comparison.notes)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_best_run_comes_first_also_if_higher_is_better(checkpoints, order):
    """The order of the arguments changes nothing, with and without intervals; equal values keep it."""
    bare = {"standard_error": None, "corrected_value": None, "interval_95": None, "label": "Precision"}
    score = {key: value for key, value in checkpoints[0].scores["fd"].items() if not key.endswith("_groups")}
    runs = [
        with_scores(replace(checkpoints[0], name=name), precision=score | bare | {"value": value}, fd=score | lower)
        for name, value, lower in [("a", 0.9, {"value": 3.0, "corrected_value": 2.0}), ("b", 0.7, {}), ("c", 0.8, {})]
    ]
    precision, fd = compare_runs([runs[i] for i in order])
    assert [row.run for row in precision.rows] == ["a", "c", "b"]
    assert [row.run for row in fd.rows] == [*(runs[i].name for i in order if i), "a"]


def test_single_run_and_runs_without_a_common_metric_are_rejected(checkpoints):
    with pytest.raises(RequestError, match=r"got 1 run; .* at least 2"):
        compare_runs(checkpoints[:1])
    other = Run(name="x", scores={"fid": checkpoints[0].scores["fd"]}, provenance=checkpoints[0].provenance)
    with pytest.raises(RequestError, match="no metric in common: step-0 has fd; x has fid"):
        compare_runs([checkpoints[0], other])


@pytest.fixture
def evil(checkpoints):
    return compare_runs([Run(name=EVIL, scores=run.scores, provenance=run.provenance) for run in checkpoints[:2]])


def test_text_has_no_control_characters(evil):
    text = FORMATTERS["text"](evil)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert len(text.splitlines()) == 2 + 2 + 1  # title, header, rows, legend


def test_csv_has_no_formulas(evil):
    rows = list(csv.DictReader(io.StringIO(FORMATTERS["csv"](evil))))
    assert rows[0]["run"].startswith("'=cmd")
    assert float(rows[0]["value"]) > 0
    assert "\x1b" not in rows[0]["run"]


def test_markdown_and_latex_have_no_markup_from_names(evil):
    (line, _) = [line for line in FORMATTERS["markdown"](evil).splitlines() if "cmd" in line]
    assert "\\<img src=x onerror=alert(1)\\>" in line
    assert line.replace("\\|", "").count("|") == 11  # ten columns
    latex = next(line for line in FORMATTERS["latex"](evil).splitlines() if "cmd" in line)
    assert r"\textbackslash{}input\{x\} \$\&\%\#\_\{\}\textasciitilde{}\textasciicircum{}" in latex
    assert latex.replace(r"\&", "").count("&") == 9


def test_json_has_a_schema_and_every_field(checkpoints):
    content = json.loads(FORMATTERS["json"](compare_runs(checkpoints)))
    assert list(content) == ["schema", "metrics"]
    assert content["schema"] == 2
    comparison = content["metrics"]["fd"]
    assert comparison["shared_reference"] is True
    assert len(comparison["rows"]) == 10
    assert comparison["rows"][-1]["adjusted_p_value"] < 0.05
    keys = {*content, *comparison, *comparison["rows"][0], *csv_header(compare_runs(checkpoints))}
    assert all(re.fullmatch("[a-z][a-z0-9_]*", key) for key in keys)


def csv_header(comparisons):
    return FORMATTERS["csv"](comparisons).splitlines()[0].split(",")


def test_csv_has_standard_names(checkpoints):
    header = csv_header(compare_runs(checkpoints))
    assert {"metric", "run", "value", "interval_95_low", "adjusted_p_value", "compact_letters"} <= set(header)


def test_scores_can_be_compared_without_files():
    random = np.random.default_rng(0)
    reference = make_statistics(random)
    scores = {
        name: frechet.score_statistics(make_statistics(random, shift), reference)
        for name, shift in (("far", 0.7), ("near", 0.5))
    }
    (comparison,) = compare_runs(scores)
    assert [(row.run, row.verdict) for row in comparison.rows] == [("near", "best"), ("far", "worse than the best")]
    assert compare_runs([Run.from_scores(name, one) for name, one in scores.items()]) == [comparison]


def make_run_text(provenance="{}", **fields):
    fields = {"label": '"FD"', "value": "1"} | fields
    score = ", ".join(f'"{name}": {value}' for name, value in fields.items())
    return f'{{"schema": 2, "scores": {{"fd": {{{score}}}}}, "provenance": {provenance}}}'


def make_scored_text(provenance):
    return make_run_text().replace('"value": 1', f'"value": 1, "provenance": {provenance}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not a JSON file"),
        ("[" * 100_000, "is not a JSON file"),
        ("[]", r"contains \[\]; expected the JSON object"),
        ('{"schema": 2, "scores": {}, "provenance": {}}', "no scores"),
        ('{"schema": 2, "scores": {"kidd": {}}, "provenance": {}}', "'kidd'.*Did you mean kid"),
        (make_run_text(value="NaN"), "fd.value is nan; expected a finite number"),
        (make_run_text(value="1" + "0" * 400), r"fd.value is 10+\.\.\.0+; expected a finite number"),
        (make_run_text(value="1" + "0" * 5000), "is not a JSON file"),
        (make_run_text(standard_error="-1"), "fd.standard_error is -1; expected .* at least 0"),
        (make_run_text(variance_components="[1, -1]"), r"fd.variance_components is \[1, -1\]; expected two finite"),
        (make_run_text(reference_groups="[1]"), r"fd.reference_groups is \[1\]; expected two or more"),
        (make_run_text(n_generated='"1"'), "fd.n_generated is '1'; expected a whole number"),
        (make_run_text(n_generated="1" + 40 * "0"), "expected a whole number"),
        (make_run_text('{"reference": [1]}'), r"provenance.reference is \[1\]; expected an object"),
        (make_run_text('{"reference": {"moments": 1}}'), "provenance.reference.moments is 1; expected two"),
        (make_run_text('{"generated": {"n": [1]}}'), r"provenance.generated.n is \[1\]; expected a whole number"),
        (make_run_text('{"reference": {"n": "1"}}'), "provenance.reference.n is '1'; expected a whole number"),
        (make_run_text('{"generated": 0}'), "json: provenance.generated is 0; expected an object"),
        (
            make_run_text('{"generated": {"seed": []}}'),
            r"json: provenance.generated.seed is \[\]; expected a whole number",
        ),
        (make_run_text(n_generated="-1"), "fd.n_generated is -1; expected a whole number of at least 1"),
        (make_scored_text('{"generated": 5}'), "fd.provenance.generated is 5; expected an object"),
        (
            make_scored_text('{"generated": {"n_source": "a"}}'),
            "fd.provenance.generated.n_source is 'a'; expected a whole number",
        ),
        (
            make_scored_text('{"reference": {"moments": "x"}}'),
            "fd.provenance.reference.moments is 'x'; expected two",
        ),
    ],
)
def test_invalid_run_files_are_rejected(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RequestError, match=message) as caught:
        read_runs([tmp_path / "run.json"])
    assert "run.json" in str(caught.value)
    with pytest.raises(RequestError, match="no such file"):
        read_runs([tmp_path / "absent.json"])


@pytest.mark.parametrize(
    ("schema", "found", "fix"),
    [
        ("", "no schema", "score the images again"),
        ('"schema": 1,', "schema 1", "score the images again"),
        ('"schema": 3,', "schema 3", "upgrade frechet"),
        ('"schema": "x",', "schema 'x'", "score the images again"),
    ],
)
def test_other_schemas_are_rejected_with_the_fix(tmp_path, schema, found, fix):
    path = tmp_path / "run.json"
    path.write_text(make_run_text().replace('"schema": 2,', schema))
    with pytest.raises(RequestError, match=f'{found}; expected "schema": 2.*{fix}'):
        read_runs([path])


def test_a_folder_is_no_run_file(tmp_path):
    with pytest.raises(RequestError, match=r"is a folder; expected a run file written by frechet score --output"):
        read_runs([tmp_path])


def test_written_scores_can_be_read(tmp_path):
    random = np.random.default_rng(0)
    scores = frechet.score_statistics(make_statistics(random, n=60), make_statistics(random, n=60))
    (tmp_path / "run.json").write_text(scores.to_json())
    (run,) = read_runs([tmp_path / "run.json"])
    assert run.scores["fd"]["value"] == scores["fd"].value


def test_provenance_of_each_score_survives_the_file(tmp_path):
    """A score of pixels has no "preprocess_on", and one of features no "colour"."""
    records = {"fd": {"extractor": "a", "preprocess_on": "host"}, "psnr": {"extractor": "pixels", "colour": "RGB"}}
    for order in (["fd", "psnr"], ["psnr", "fd"]):
        scores = {key: Score(metric=key, label=key, value=1.0, provenance=records[key]) for key in order}
        path = tmp_path / f"{order[0]}.json"
        path.write_text(Scores(scores, records[order[0]]).to_json())
        (found,) = read_runs([path])
        assert {key: found.get_provenance(key) for key in order} == records


def write_run(run, path):
    path.write_text(json.dumps({"schema": 2, "scores": run.scores, "provenance": run.provenance}))
    return path


def test_command_line(checkpoints, tmp_path):
    paths = [write_run(one, tmp_path / f"{one.name}.json") for one in checkpoints[:3]]
    code, out, _ = run("compare", *paths)
    assert code == 0
    assert (out.count("95 % CI"), out.count("95 % CI of difference")) == (2, 1)
    assert [line.split()[0] for line in out.splitlines()[2:5]][2] == "step-1"  # the worst one
    assert "worse than the best" in out.splitlines()[4]
    assert run("compare", *paths, "--format", "latex", "--output", tmp_path / "t.tex")[:2] == (0, "")
    assert "\\toprule" in (tmp_path / "t.tex").read_text()
    assert run("compare", *paths, "--output", tmp_path / "t.tex")[0] == 2
    code, _, err = run("compare", *paths, "--format", "nonsense")
    assert code == 2
    assert "'nonsense'" in err
    assert "markdown" in err


def test_runs_of_the_same_images_in_other_orders_and_designs_are_noted():
    """Their moments differ in the last digits."""
    x, y = np.random.default_rng(0).normal(size=(2, 2000, 8)).astype("float32")
    strata, clusters = {"generated": np.arange(2000) % 10}, {"generated": np.arange(2000) // 2}
    runs = {
        "plain": frechet.score(x, y, features=True),
        "strata": frechet.score(x, y, features=True, strata=strata),
        "clusters": frechet.score(x[::-1].copy(), y, features=True, clusters=clusters),
    }
    assert len({tuple(scores.provenance["generated"]["moments"]) for scores in runs.values()}) > 1
    (comparison,) = frechet.compare_runs(runs)
    assert comparison.notes == (
        "The sampling designs differ (plain: independent; strata: stratified generated images; clusters: clusters of generated images). "
        "An interval only holds if its design is how the images of the run were sampled.",
        "plain, strata and clusters were scored on identical generated images; they may be the same run.",
    )
    repeated = {"plain": runs["plain"], "copies": frechet.score(np.tile(x[:1000], (2, 1)), y, features=True)}
    assert frechet.compare_runs(repeated)[0].notes == ()


def test_a_mean_over_repetitions_is_not_ranked_by_the_first_repetition(checkpoints, tmp_path):
    """Files of version 0.2.0 have the interval of the first repetition next to the mean of all of them."""
    repeated = {"fd": {**checkpoints[0].scores["fd"], "value": 9.0, "std": 0.1, "repeats": [8.9, 9.1]}}
    paths = [
        write_run(one, tmp_path / f"{one.name}.json")
        for one in (replace(checkpoints[0], scores=repeated), checkpoints[1])
    ]
    (comparison,) = compare_runs(paths)
    assert [(row.run, row.corrected_value is None, row.verdict) for row in comparison.rows] == [
        ("step-1", False, "best value"),
        ("step-0", True, None),
    ]
    assert comparison.notes[0] == "step-0: mean over repetitions (--repeat), which has no confidence interval."


def test_duplicate_files_are_rejected_and_duplicate_runs_noted(checkpoints, tmp_path):
    one, other = write_run(checkpoints[0], tmp_path / "one.json"), tmp_path / "other.json"
    other.write_bytes(one.read_bytes())
    (tmp_path / "link.json").symlink_to("one.json")
    for again in (one, tmp_path / "link.json"):
        with pytest.raises(RequestError, match=f"{again} is the same file as {one}; give each run once"):
            read_runs([one, other, again])
    (comparison,) = compare_runs([*read_runs([one, other]), checkpoints[1]])
    assert any("one and other" in note and "identical generated images" in note for note in comparison.notes)
    (comparison,) = compare_runs(checkpoints[:3])
    assert not any("identical" in note for note in comparison.notes)


def with_scores(run, **scores):
    return Run(name=run.name, scores=scores, provenance=run.provenance)


def test_missing_metrics_are_shown_as_dashes(checkpoints):
    """No run is dropped: a run without the metric has a row of dashes; a metric of a single run has a table."""
    fd = [run.scores["fd"] for run in checkpoints[:3]]
    runs = [
        with_scores(checkpoints[0], fd=fd[0], vendi=fd[0]),
        with_scores(checkpoints[1], vendi=fd[1], mmd=fd[1]),
        with_scores(checkpoints[2], fd=fd[2]),
    ]
    comparisons = compare_runs(runs)
    assert [(one.metric, len(one.rows)) for one in comparisons] == [("fd", 3), ("vendi", 3), ("mmd", 3)]
    assert [row.value for row in comparisons[0].rows] == [fd[0]["value"], fd[2]["value"], None]
    assert comparisons[0].rows[1].difference_95  # the other two runs are compared
    assert comparisons[0].notes[-1] == "without this metric: step-1"
    assert comparisons[2].rows[1].verdict is None  # a single run is not ranked
    lines = FORMATTERS["text"](comparisons).splitlines()
    assert lines[4].split() == ["step-1", *["-"] * 9]
    assert "| step\\-1 | - |" in FORMATTERS["markdown"](comparisons) or "| step-1 | - |" in FORMATTERS["markdown"](
        comparisons
    )
    rows = list(csv.DictReader(io.StringIO(FORMATTERS["csv"](comparisons))))
    assert (rows[2]["run"], rows[2]["value"]) == ("step-1", "")
    assert json.loads(FORMATTERS["json"](comparisons))["metrics"]["fd"]["rows"][2]["value"] is None


@pytest.mark.slow
def test_page_has_a_gap_for_a_missing_value(checkpoints):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from frechet.reports.comparison_page import render_comparison_page

    fd = checkpoints[0].scores["fd"]
    runs = [
        with_scores(checkpoints[0], fd=fd),
        with_scores(checkpoints[1], vendi=fd),
        with_scores(checkpoints[2], fd=fd),
    ]
    page = render_comparison_page(compare_runs(runs))
    assert page.count("<section") == 2
    assert '<td data-value="-">-</td>' in page


def test_text_has_no_empty_column_and_each_note_once(checkpoints):
    runs = [
        with_scores(
            run, fd=run.scores["fd"], mmd=run.scores["fd"] | {"corrected_value": None, "label": "a second metric"}
        )
        for run in checkpoints[:3]
    ]
    first, second = FORMATTERS["text"](compare_runs(runs)).split("\n\n")
    assert "bias-corrected" in first
    assert "bias-corrected" not in second
    assert ("share a letter" in first, "share a letter" in second) == (False, True)


@pytest.mark.slow
def test_page_has_two_header_rows_and_no_empty_column(checkpoints):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from frechet.reports.comparison_page import render_comparison_page

    def read_headings(page):
        head = page.partition("<thead>")[2].partition("</thead>")[0]
        return [re.findall(r">([^<>\n]+)</(?:button|th)>", row) for row in head.split("</tr>")[:2]]

    page = render_comparison_page(compare_runs(checkpoints[:3]))
    group = ["Difference", "95 % CI", "Adjusted p"]
    assert read_headings(page) == [
        ["Run", "Images", "Score", "Difference to the best run", "Verdict", "Letters"],
        ["Value", "Bias-corrected", "95 % CI", *group],
    ]
    reference = checkpoints[0].provenance["reference"]["label"]
    assert re.search(rf"<title>\S+ of 3 runs vs {reference}, \d{{4}}-\d\d-\d\d</title>", page)
    bare = [
        with_scores(run, fd=run.scores["fd"] | {"corrected_value": None, "standard_error": None, "interval_95": None})
        for run in checkpoints[:3]
    ]
    assert read_headings(render_comparison_page(compare_runs(bare))) == [
        ["Run", "Images", "Score", "Difference to the best run", "Verdict"],
        ["Value", "Difference"],
    ]


def test_columns_of_grouped_headings_sort_their_own_column(checkpoints):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from frechet.reports.comparison_page import build_page_table

    table = build_page_table(build_tables(compare_runs(checkpoints[:3]))[0])
    positions = [first + i for _, first, names in table.groups for i in range(len(names))]
    assert positions == list(range(len(table.rows[0])))
    for text in (cell for row in table.rows for cell in row[1:8]):
        assert "-" not in text  # but a minus sign


@pytest.mark.parametrize("n", [400, 401])
def test_precision_is_tested_at_equal_sample_sizes_only(n):
    random = np.random.default_rng(0)
    reference = random.standard_normal((300, 6)).astype(np.float32)
    samples = {"near": (400, 0.4), "far": (n, 3.0)}
    runs = {
        name: frechet.score(
            (random.standard_normal((size, 6)) + shift / 2).astype(np.float32),
            reference,
            features=True,
            metrics="precision",
        )
        for name, (size, shift) in samples.items()
    }
    (comparison,) = compare_runs(runs)
    if n == 400:
        assert [row.verdict for row in comparison.rows] == ["best", "worse than the best"]
        near, far = (runs[name]["precision"] for name in samples)
        error = (near.standard_error**2 + far.standard_error**2) ** 0.5
        low, high = comparison.rows[1].difference_95
        assert (high - low) / 2 == pytest.approx(1.96 * error, rel=1e-3)
    else:
        assert [row.verdict for row in comparison.rows] == [None, None]
        assert any("sample sizes differ" in note for note in comparison.notes)


@pytest.mark.slow
def test_plot_does_not_mix_corrected_and_classical_values(checkpoints):
    pytest.importorskip("matplotlib")
    from frechet.reports.plots import plot_runs

    corrected = checkpoints[0].scores["fd"] | {"value": 17.5, "corrected_value": 0.3, "interval_95": [0.1, 0.8]}
    classical = corrected | {"value": 18.3, "corrected_value": None, "standard_error": None, "interval_95": None}

    def render(*scores):
        (comparison,) = compare_runs([with_scores(run, fd=fd) for run, fd in zip(checkpoints, scores, strict=False)])
        svg = plot_runs(comparison).svg
        return [float(text) for text in re.findall(r">([\d.]+)</text>", svg)], ", bias-corrected<" in svg

    ticks, is_corrected = render(corrected, classical)
    assert not is_corrected
    assert 17 < min(ticks) < max(ticks) < 19
    ticks, is_corrected = render(corrected, corrected)
    assert is_corrected
    assert 0 <= min(ticks) < max(ticks) < 1


@pytest.mark.parametrize("interval", ["auto", "none"])
def test_runs_with_equal_values_are_all_best(checkpoints, interval):
    fd = dict(checkpoints[0].scores["fd"])
    if interval == "none":
        fd |= {"corrected_value": None, "standard_error": None, "interval_95": None}
    (comparison,) = compare_runs([with_scores(run, fd=fd) for run in checkpoints[:3]])
    assert {row.verdict for row in comparison.rows} == {"best" if interval == "auto" else "best value"}
    assert {row.difference for row in comparison.rows} == {0}


def test_example_in_the_docstring_runs():
    failed, attempted = doctest.testmod(run_comparison)
    assert attempted
    assert not failed


def test_a_copy_of_an_image_does_not_undo_the_pairing_of_runs():
    random = np.random.default_rng(0)
    reference, one = random.integers(60, 200, (2, 1500, PIXELS, PIXELS, 3), np.uint8)
    other = (one.astype(int) + random.integers(-2, 5, one.shape)).clip(0, 255).astype(np.uint8)
    collected = collect_statistics(open_source(reference), Settings(), TOY)

    def compute_width(*models):
        statistics = [collect_statistics(open_source(each), Settings(), TOY) for each in models]
        scores = {str(name): frechet.score(each, collected, metrics="fd") for name, each in enumerate(statistics)}
        (interval,) = (row.difference_95 for row in compare_runs(scores, paired_runs=True)[0].rows if row.difference_95)
        return interval[1] - interval[0]

    width = compute_width(one, other)
    with_copy = np.concatenate([other[:1], other[:1], other[2:]])
    assert compute_width(one, with_copy) == pytest.approx(width, rel=0.2)
    assert compute_width(np.concatenate([one[:1], one[:1], one[2:]]), with_copy) == pytest.approx(width, rel=0.2)

"""Sampling designs: pairs, clusters and duplicates, as the caller states them or as the images show them."""

import json
import shutil

import numpy as np
import pytest
from helpers import make_image_folder, run
from toy_extractor import compute_toy_features

import frechet
from frechet.distances.interval import confidence_interval
from frechet.distances.interval_input import IntervalInput
from frechet.errors import RequestError
from frechet.metrics import fit_gaussian
from frechet.reports.score_table import describe_scores
from frechet.reports.text import format_scores
from frechet.statistics.group_moments import GroupMoments, assign_groups
from frechet.statistics.row_sample import priorities
from frechet.statistics.strata import number_stratified_images

N = 60


def draw(seed, n=N, d=12, scale=1.0, shift=0.0):
    return (np.random.default_rng(seed).standard_normal((n, d)) * scale + shift).astype(np.float32)


@pytest.fixture
def folders(tmp_path):
    """Two folders with the same file names."""
    return tuple(make_image_folder(tmp_path / name, N, seed, size=(8, 8)) for seed, name in enumerate("ab"))


@pytest.fixture
def other_names(folders, tmp_path):
    """A folder with the images of the second one under other names."""
    folder = tmp_path / "c"
    folder.mkdir()
    for path in folders[1].iterdir():
        shutil.copy(path, folder / f"x{path.name}")
    return folder


def expected_interval(folders, *, paired=False, units=None):
    """Return the interval of features computed with NumPy."""
    inputs = []
    for folder, given in zip(folders, (units, None), strict=True):
        rows = compute_toy_features(folder).astype(np.float32)
        statistics = frechet.Statistics.from_features(rows)
        each = np.arange(N) if given is None else given
        groups = GroupMoments.from_features(rows, each, seed=0)
        n_units = None if given is None else len(set(given.tolist()))
        inputs.append(
            IntervalInput(
                fit_gaussian(statistics),
                N,
                groups=groups,
                n_units=n_units,
                rows=rows,
                units=given,
                row_groups=assign_groups(each, seed=0),
            )
        )
    return confidence_interval(*inputs, paired=paired)


def assert_rejected(parts, *inputs, **options):
    with pytest.raises(RequestError) as caught:
        frechet.score(*inputs, **options)
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.slow
def test_equal_names_on_both_sides_are_pairs(folders, other_names, toy_options):
    score = frechet.score(*folders, **toy_options)["fd"]
    assert score.sampling_design == "60 pairs"
    expected = expected_interval(folders, paired=True)
    assert score.standard_error == pytest.approx(expected.standard_error, rel=1e-3)
    assert score.variance_components[0] == 0
    unpaired = frechet.score(folders[0], other_names, **toy_options)["fd"]
    assert unpaired.sampling_design == "independent"
    assert unpaired.variance_components[0] > 0
    assert float(unpaired) == pytest.approx(float(score), rel=1e-9)


@pytest.mark.slow
def test_names_of_pairs_may_have_other_suffixes_but_not_another_order(folders, toy_options):
    for path in folders[1].iterdir():
        path.rename(path.with_suffix(".PNG"))
    assert frechet.score(*folders, **toy_options)["fd"].sampling_design == "60 pairs"
    (folders[1] / "059.PNG").rename(folders[1] / "100.PNG")
    assert frechet.score(*folders, **toy_options)["fd"].sampling_design == "independent"
    assert_rejected(("equal names", "059", "100", "--design independent"), *folders, design="paired", **toy_options)


def test_independent_images_are_not_paired_by_their_names(folders, toy_options):
    score = frechet.score(*folders, design="independent", **toy_options)["fd"]
    assert score.sampling_design == "independent"
    expected = expected_interval(folders)
    assert score.standard_error == pytest.approx(expected.standard_error, rel=1e-3)
    assert score.corrected_value == pytest.approx(expected.corrected_value, rel=1e-3)
    assert min(score.variance_components) > 0


def test_a_fixed_reference_has_no_pairs(folders, toy_options):
    score = frechet.score(*folders, reference_is="fixed", **toy_options)["fd"]
    assert (score.reference_is, score.sampling_design) == ("fixed", "independent")
    assert score.variance_components[1] == 0


def test_pairs_need_equal_numbers_of_images(folders, toy_options):
    (folders[1] / "000.png").unlink()
    assert frechet.score(*folders, **toy_options)["fd"].sampling_design == "independent"
    parts = ("equal numbers of generated and reference images", "60 and 59", "--design independent")
    assert_rejected(parts, *folders, design="paired", **toy_options)
    parts = ("both images of each pair", "60 generated and 59 reference images")
    assert_rejected(parts, draw(0), draw(1, 59), features=True, design="paired")


def test_one_input_of_pairs_can_be_collected_alone(folders, toy_options):
    statistics = frechet.collect(folders[0], design="paired", **toy_options)
    assert (statistics.n, statistics.grouped_by) == (60, "pair")


@pytest.mark.slow
@pytest.mark.parametrize("is_other_broken", [True, False])
def test_images_skipped_on_one_side_break_the_pairs(folders, toy_options, is_other_broken):
    make_image_folder(folders[1] / "zz", 2, seed=5, size=(8, 8))
    make_image_folder(folders[0] / "zz", 2, seed=6, size=(8, 8))
    (folders[0] / "zz" / "000.png").write_text("broken")
    if is_other_broken:
        (folders[1] / "zz" / "001.png").write_text("broken")  # 61 usable images on each side
    options = {"on_bad_image": "skip", **toy_options}
    with pytest.raises(RequestError) as caught:
        float(frechet.score(*folders, **options)["fd"])
    assert all(part in str(caught.value) for part in ("skipped in one input only", "--design independent"))
    assert frechet.score(*folders, design="independent", **options)["fd"].sampling_design == "independent"


def test_features_are_pairs_if_the_request_states_so():
    x = draw(0)
    y = x + draw(1, scale=0.3, shift=0.5)
    paired, independent = (frechet.score(x, y, features=True, design=design)["fd"] for design in ("paired", "auto"))
    assert (paired.sampling_design, independent.sampling_design) == ("60 pairs", "independent")
    assert paired.standard_error < 0.7 * independent.standard_error


@pytest.mark.parametrize("metrics", [["rfid"], ["fid", "rfid"]])
def test_reconstructions_are_pairs(metrics):
    x, y = draw(0, 100, 64), draw(1, 100, 64)  # of the size of Inception features
    options = {"features": True, "metrics": metrics, "extractor": "inception"}
    scores = frechet.score(x, y, **options)
    assert {score.sampling_design for score in scores.values()} == {"100 pairs"}
    independent = frechet.score(x, y, **options, design="independent")["rfid"]
    assert independent.interval_95 is None
    for part in ("pairs are required", "design auto or paired"):
        assert part in independent.interval_unavailable_reason


@pytest.mark.slow
def test_duplicates_of_an_image_are_one_unit(tmp_path, toy_options):
    """Sixty images, of which five have two copies each: 70² / (55 · 1² + 5 · 3²) = 49."""
    folder = make_image_folder(tmp_path / "a", N, size=(8, 8))
    for index in range(5):
        for copy in "xy":
            shutil.copy(folder / f"{index:03d}.png", folder / f"{copy}{index}.png")
    found = frechet.collect(folder, **toy_options)
    assert (found.n, found.grouped_by, found.n_units) == (70, "image", 49)
    names = sorted(path.name for path in folder.iterdir())
    for index in range(5):
        units = {int(found.units[names.index(name)]) for name in (f"{index:03d}.png", f"x{index}.png", f"y{index}.png")}
        assert len(units) == 1
    assert len(set(found.units.tolist())) == N
    reference = make_image_folder(tmp_path / "b", 64, seed=3, size=(8, 8))
    score = frechet.score(folder, reference, **toy_options)["fd"]
    assert score.interval_95 is None
    for part in ("at least 50 independent images", "duplicates", "got 49"):
        assert part in score.interval_unavailable_reason
    shutil.copy(folder / "059.png", folder / "z.png")
    make_image_folder(folder / "more", 20, seed=4, size=(8, 8))
    score = frechet.score(folder, reference, **toy_options)["fd"]
    assert score.sampling_design == "duplicates: 91 generated images, as informative as 67 independent ones"
    independent = frechet.score(folder, reference, design="independent", **toy_options)["fd"]
    assert independent.sampling_design == "independent"  # equal contents by chance


@pytest.fixture
def clustered(tmp_path):
    """A generated folder of sixty prompts with two images each, as prompts/i_0.png and prompts/i_1.png."""
    folder, scratch = tmp_path / "clustered", make_image_folder(tmp_path / "scratch", 120, seed=7, size=(8, 8))
    for index, path in enumerate(sorted(scratch.iterdir())):
        target = folder / f"prompt{index // 2}" / f"{index // 2:03d}_{index % 2}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder


def flatten(folder, to):
    to.mkdir()
    for path in folder.rglob("*.png"):
        shutil.copy(path, to / path.name)
    return to


@pytest.mark.slow
def test_clusters_come_from_folders_names_a_table_or_the_caller(clustered, tmp_path, toy_options):
    flat = flatten(clustered, tmp_path / "flat")
    names = sorted(path.name for path in flat.iterdir())
    rows = [f"{name},prompt {name[:3]}" for name in names]
    (tmp_path / "clusters.csv").write_text("\n".join(["name,cluster", *rows]))
    (tmp_path / "bare.csv").write_text("\n".join(rows[::-1]) + "\n")
    requests = [
        (clustered, {"cluster_by": "folder"}),
        (clustered, {"cluster_by": "stem"}),
        (flat, {"cluster_by": "stem"}),
        (flat, {"cluster_by": tmp_path / "clusters.csv"}),
        (flat, {"cluster_by": str(tmp_path / "bare.csv")}),
        (flat, {"clusters": [name[:3] for name in names]}),
        (flat, {"clusters": {"generated": np.repeat(np.arange(60), 2)}}),
    ]
    reference = frechet.collect(make_image_folder(tmp_path / "reference", 64, size=(8, 8)), **toy_options)
    errors = []
    for generated, options in requests:
        score = frechet.score(generated, reference, **options, **toy_options)["fd"]
        assert score.sampling_design == "clusters: 120 generated images, as informative as 60 independent ones", options
        errors.append(score.standard_error)
    assert errors == pytest.approx(errors[:1] * len(requests), rel=1e-6)
    assert frechet.score(clustered, reference, **toy_options)["fd"].standard_error != pytest.approx(errors[0], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("cluster_by", ["folder", "stem"])
def test_the_command_finds_clusters_by_names(clustered, tmp_path, toy_options, cluster_by):
    """The value of the option was taken for the path of a table."""
    reference = tmp_path / "reference.npz"
    frechet.collect(make_image_folder(tmp_path / "reference", 64, size=(8, 8)), **toy_options).save(reference)
    options = [part for name, value in toy_options.items() for part in (f"--{name}", value)]
    code, out, err = run("score", clustered, reference, "--cluster-by", cluster_by, *options)
    assert code == 0, err
    assert "120 generated images, as informative as 60 independent ones" in " ".join(out.split())


@pytest.mark.slow
def test_names_of_both_folders_form_clusters(clustered, folders, toy_options):
    """The names 000.png to 059.png have no prefix, so that each is a cluster of its own."""
    score = frechet.score(clustered, folders[1], cluster_by="stem", **toy_options)["fd"]
    assert score.sampling_design == "clusters: 120 generated images, as informative as 60 independent ones"
    for path in sorted(folders[1].iterdir()):
        path.rename(path.with_name(f"{int(path.stem) // 30}-{path.name}"))
    score = frechet.score(clustered, folders[1], cluster_by="stem", **toy_options)["fd"]
    assert score.interval_unavailable_reason.endswith("got 60 generated and 2 reference")


def test_clusters_increase_the_standard_error():
    """Four copies of each image have the error of one: the variance components by hand."""
    x, y = draw(0, 80), draw(1, 300, scale=1.5)
    copies = np.repeat(x, 4, axis=0)
    clusters = np.repeat(np.arange(80), 4)
    once = frechet.score(x, y, features=True)["fd"]
    clustered = frechet.score(copies, y, features=True, clusters=clusters)["fd"]
    ignored = frechet.score(copies, y, features=True)["fd"]
    assert clustered.variance_components[0] == pytest.approx(once.variance_components[0], rel=0.1)
    assert ignored.variance_components[0] == pytest.approx(once.variance_components[0] / 4, rel=0.1)
    assert clustered.sampling_design == "clusters: 320 generated images, as informative as 80 independent ones"


def test_clusters_of_both_inputs_and_of_part_of_them():
    clusters = {"generated": np.repeat(np.arange(60), 2), "reference": [f"c{i // 3}" for i in range(180)]}
    score = frechet.score(draw(0, 120), draw(1, 180), features=True, clusters=clusters)["fd"]
    assert score.sampling_design == (
        "clusters: 120 generated images, as informative as 60 independent ones; "
        "clusters: 180 reference images, as informative as 60 independent ones"
    )
    only = frechet.score(draw(0, 120), draw(1, 180), features=True, clusters={"reference": clusters["reference"]})["fd"]
    assert only.sampling_design == "clusters: 180 reference images, as informative as 60 independent ones"


def test_text_page_and_json_state_the_design(tmp_path):
    clusters = np.repeat(np.arange(60), 2)
    scores = frechet.score(draw(0, 120), draw(1, 100), features=True, clusters=clusters)
    for text in (format_scores(scores), " ".join(describe_scores([scores["fd"]]))):
        assert "120 generated images" in text
        assert "60 independent" in text
    assert json.loads(scores.to_json())["scores"]["fd"]["sampling_design"] == scores["fd"].sampling_design
    for name, seed in (("x", 0), ("y", 1)):
        np.save(tmp_path / f"{name}.npy", draw(seed))
    code, out, _ = run("score", tmp_path / "x.npy", tmp_path / "y.npy", "--features", "--design", "paired")
    assert code == 0
    assert "60 pairs" in out


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"design": "pairs"}, ("'pairs'", "design", "paired")),
        ({"design": "paired", "clusters": [0, 0]}, ("'paired'", "clusters", "--design (design=)", "leave it out")),
        ({"clusters": [0] * N, "cluster_by": "stem"}, ("--cluster-by (cluster_by=) and clusters=", "pass only one")),
        ({"clusters": [0, 0, *list(range(57))]}, ("59 entries", "60 images", "one per image")),
        ({"clusters": {"held-out": [0, 0]}}, ("held-out", "generated, reference or both")),
        ({"clusters": np.zeros((N, 2))}, ("shape (60, 2)", "(n,)")),
        ({"clusters": [None] * N}, ("clusters", "None", "integers or strings")),
        ({"clusters": [0.5] * N}, ("clusters", "0.5", "integers or strings")),
        ({"clusters": [[0], [0, 1]] * (N // 2)}, ("clusters", "not an array", "one per image")),
        ({"strata": [None] * N}, ("strata", "None", "integers or strings")),
        ({"clusters": range(N)}, ("one image each", "share a cluster", "Leave clusters out")),
        (
            {"cluster_by": "stem"},
            ("--cluster-by (cluster_by=) is 'stem'", "has one image", "folder, stem or a CSV file"),
        ),
        (
            {"cluster_by": "folder"},
            ("--cluster-by (cluster_by=) is 'folder'", "are in one folder", "if the images are independent"),
        ),
        ({"cluster_by": "nowhere.csv"}, ("nowhere.csv", "does not exist", "name,cluster")),
    ],
)
def test_designs_that_do_not_fit_the_images_are_rejected(folders, toy_options, options, parts):
    assert_rejected(parts, *folders, **options, **toy_options)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda rows: rows[1:], ("no row for 000.png", "1 of 60", "name,cluster")),
        (lambda rows: [row.partition(",")[0] for row in rows], ("two columns", "name,cluster")),
        (lambda rows: [f"{row},x" for row in rows], ("two columns", "name,cluster")),
        (lambda rows: [], ("two columns", "name,cluster")),
        (lambda rows: [f"{i:03d}.png,{i}" for i in range(N)], ("every cluster of", "has one image")),
        (
            lambda rows: [f"a/{row}" for row in rows],
            ("no row for the images of", "'000.png'", "first rows are for 'a/000.png'"),
        ),
        (
            lambda rows: ["file,group"],
            ("no row for the images of", "first rows are for 'file'", "columns name,cluster"),
        ),
    ],
    ids=["missing row", "one column", "three columns", "empty", "single images", "other names", "other columns"],
)
def test_tables_that_do_not_fit_the_images_are_rejected(folders, tmp_path, toy_options, change, parts):
    rows = change([f"{index:03d}.png,{index // 2}" for index in range(N)])
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["name,cluster", *rows]))
    assert_rejected((str(table), *parts), *folders, cluster_by=table, **toy_options)


def test_images_in_memory_have_no_names_to_find_clusters_by(toy_options):
    images = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), np.uint8)
    assert_rejected(("no file names", "clusters="), images, images, cluster_by="stem", **toy_options)


def test_clusters_of_features_need_one_entry_per_row():
    assert_rejected(("60 rows", "59"), draw(0), draw(1), features=True, clusters=np.arange(59) // 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3])
def test_clusters_of_a_subset_are_those_of_its_images(clustered, toy_options, seed):
    reference = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), np.uint8)
    clusters = np.repeat(np.arange(60), 2)
    options = {"num_images": 100, "seed": seed, "clusters": clusters, **toy_options}
    score = frechet.score(clustered, reference, **options)["fd"]
    chosen = np.argsort(priorities(np.arange(120), seed))[:100]
    sizes = np.unique(clusters[chosen], return_counts=True)[1]
    assert 1 in sizes
    n_units = 100**2 // (sizes**2).sum()
    assert score.sampling_design == (f"clusters: 100 generated images, as informative as {n_units} independent ones")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"design": "paired"}, ("assumes independent images", "60 pairs")),
        ({"clusters": np.repeat(np.arange(20), 3)}, ("assumes independent images", "60 generated images")),
        ({"reference_is": "fixed"}, ("its own sampling error", "fixed reference")),
    ],
)
def test_kid_has_no_interval_for_other_designs(options, parts):
    score = frechet.score(draw(0), draw(1), features=True, metrics=["kid"], **options)["kid"]
    assert score.interval_95 is score.standard_error is score.reference_is is None
    assert all(part in score.interval_unavailable_reason for part in parts)


def test_kid_has_an_interval_for_independent_images():
    score = frechet.score(draw(0), draw(1), features=True, metrics=["kid"])["kid"]
    assert (score.reference_is, score.sampling_design) == ("sample", "independent")
    assert score.interval_95 is not None


@pytest.mark.parametrize("metric", ["kid", "precision"])
def test_a_few_duplicates_do_not_remove_the_interval_of_metrics_for_independent_images(metric):
    """n_units = n² / Σ m²: one image that occurs twice leaves 199 of 201, three more copies of it 185 of 204."""
    x, y = draw(0, 200), draw(1, 200)
    options = {"features": True, "metrics": [metric]}
    without = frechet.score(x, y, **options)[metric]
    units = np.append(np.arange(200), 0)
    few = frechet.Statistics.from_features(x[units], units=units)
    found = frechet.score(few, y, **options)[metric]
    assert found.sampling_design == "independent"
    assert found.interval_95 == pytest.approx(without.interval_95, abs=0.1 * np.ptp(without.interval_95))
    units = np.append(units, [0, 0, 0])
    many = frechet.Statistics.from_features(x[units], units=units)
    refused = frechet.score(many, y, **options)[metric]
    assert refused.interval_95 is None
    for part in ("204 generated images, as informative as 185", "expected at least 99%", "Remove the duplicates"):
        assert part in refused.interval_unavailable_reason


def test_stored_statistics_keep_their_clusters(tmp_path):
    clusters = np.repeat(np.arange(60), 2)
    x, y = draw(0, 120), draw(1, 100)
    frechet.Statistics.from_features(x, units=clusters, grouped_by="cluster").save(tmp_path / "x.npz")
    stored = frechet.score(tmp_path / "x.npz", y, features=True)["fd"]
    direct = frechet.score(x, y, features=True, clusters=clusters)["fd"]
    assert stored.sampling_design == direct.sampling_design
    assert stored.interval_95 == pytest.approx(direct.interval_95, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        pytest.param({"cluster_by": "stem"}, ("cluster_by", "clusters=")),
        pytest.param({"cluster_by": "nowhere.csv"}, ("nowhere.csv",)),
        pytest.param({"cluster_by": "stem", "clusters": [0] * N}, ("(cluster_by=) and clusters",)),
        pytest.param({"design": "paired", "clusters": [0] * N}, ("'paired'", "clusters")),
    ],
)
def test_designs_that_do_not_fit_features_are_rejected(options, parts):
    assert_rejected(parts, draw(0), draw(1), features=True, **options)


@pytest.mark.parametrize("options", [{"design": "paired"}, {"clusters": {"reference": np.repeat(np.arange(30), 2)}}])
def test_a_design_that_stored_statistics_do_not_have_is_rejected(tmp_path, options):
    frechet.Statistics.from_features(draw(1)).save(tmp_path / "y.npz")
    assert_rejected((str(tmp_path / "y.npz"),), draw(0), tmp_path / "y.npz", features=True, **options)


@pytest.mark.slow
def test_equal_names_are_warned_about_if_the_interval_is_for_independent_images(tmp_path, toy_options):
    for seed, name in enumerate(("a", "b")):
        make_image_folder(tmp_path / name, 8, seed=seed)
    make_image_folder(tmp_path / "c", 8, seed=2)
    (tmp_path / "c" / "000.png").rename(tmp_path / "c" / "other.png")

    def has_warning(reference, **options):
        warnings = frechet.score(tmp_path / "a", tmp_path / reference, **options, **toy_options)["fd"].warnings
        return any("equal names in the same order" in warning for warning in warnings)

    assert has_warning("b", design="independent")
    assert not has_warning("b")
    assert not has_warning("c", design="independent")
    assert not has_warning("b", design="independent", interval="none")


def draw_classes(seed, sizes=(30, 30), d=6):
    """Return features of two classes that are far apart, and the class of each row."""
    random = np.random.default_rng(seed)
    classes = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (random.standard_normal((len(classes), d)) + 5 * classes[:, None]).astype(np.float32), classes


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_the_interval_of_a_stratified_sample_has_the_error_of_fixed_proportions():
    """Against a fixed reference that only differs in its mean, between the strata; n is ten images per dimension."""
    reference = draw_classes(10**6, (20_000, 20_000))[0] + np.float32(1)
    options = {"features": True, "reference_is": "fixed"}
    found, ignored = [], []
    for seed in range(80):
        rows, classes = draw_classes(seed)
        found.append(frechet.score(rows, reference, strata=classes, **options)["fd"])
        ignored.append(frechet.score(rows, reference, **options)["fd"])
    deviation = np.std([score.corrected_value for score in found])
    assert 0.8 < np.mean([score.standard_error for score in found]) / deviation < 1.4
    assert np.mean([score.standard_error for score in ignored]) > 2 * deviation
    value = np.mean([score.corrected_value for score in found])
    assert value == pytest.approx(6, abs=4 * deviation / 80**0.5 + 0.1)  # d · 1², the covariances are equal
    assert found[0].sampling_design == "stratified generated images"


@pytest.mark.slow
def test_classes_are_strata(tmp_path, toy_options):
    for seed, name in enumerate("ab"):
        make_image_folder(tmp_path / "generated" / name, 30, seed, size=(8, 8))
    reference = make_image_folder(tmp_path / "reference", 60, 9, size=(8, 8))
    score = frechet.score(tmp_path / "generated", reference, strata="class", **toy_options)["fd"]
    assert score.sampling_design == "stratified generated images"
    names = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "generated").rglob("*.png"))
    classes = [name.split("/")[1] for name in names]
    same = frechet.score(tmp_path / "generated", reference, strata=classes, **toy_options)["fd"]
    assert same.standard_error == score.standard_error
    rows = np.concatenate([compute_toy_features(tmp_path / "generated" / name) for name in "ab"])
    features = frechet.score(rows, compute_toy_features(reference), features=True, strata=classes)["fd"]
    assert features.standard_error == pytest.approx(score.standard_error, rel=1e-3)


def test_stored_statistics_keep_their_strata(tmp_path):
    rows, classes = draw_classes(0)
    statistics = frechet.Statistics.from_features(
        rows, units=number_stratified_images(classes, 0), grouped_by="stratum"
    )
    statistics.save(tmp_path / "stored.npz")
    other = draw(5, 100, 6)
    stored = frechet.score(tmp_path / "stored.npz", other, features=True)["fd"]
    assert stored.sampling_design == "stratified generated images"
    assert stored.standard_error == frechet.score(rows, other, strata=classes, features=True)["fd"].standard_error


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"strata": "folder"}, ("'folder'", "expected 'class'")),
        ({"strata": [0, 1] * 30, "clusters": [0, 1] * 30}, ("--strata (strata=) and clusters=", "leave out one")),
        (
            {"strata": [0, 1] * 30, "num_images": 20},
            ("--strata (strata=) and --num-images (num_images=)", "leave out one"),
        ),
        ({"strata": [0, 1] * 30, "design": "paired"}, ("'paired'", "strata", "--design (design=)", "leave it out")),
        ({"strata": [0] * 60}, ("stratum 0", "several strata", "Leave strata out")),
        ({"strata": [0] * 59 + [1]}, ("stratum 1", "one image", "at least 2")),
        ({"strata": {"held_out": [0, 1]}}, ("held_out", "generated, reference or both")),
    ],
)
def test_strata_that_cannot_be_used_are_rejected(options, parts):
    assert_rejected(parts, draw(0), draw(1), features=True, **options)


def test_strata_of_images_need_classes_and_one_entry_per_image(folders, toy_options):
    assert_rejected(("class",), *folders, strata="class", **toy_options)
    assert_rejected(("4 entries", "60 images"), *folders, strata=[0, 0, 1, 1], **toy_options)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"cluster_by": "stem"}, {"clusters": np.repeat(np.arange(60), 2)}])
def test_collected_statistics_carry_the_clusters(clustered, tmp_path, toy_options, options):
    reference = make_image_folder(tmp_path / "reference", 64, size=(8, 8))
    frechet.collect(clustered, **options, **toy_options).save(tmp_path / "stored.npz")
    stored = frechet.score(tmp_path / "stored.npz", reference, **toy_options)["fd"]
    direct = frechet.score(clustered, reference, **options, **toy_options)["fd"]
    assert stored.sampling_design == "clusters: 120 generated images, as informative as 60 independent ones"
    assert stored.interval_95 == pytest.approx(direct.interval_95, rel=1e-9)


@pytest.mark.slow
def test_collected_statistics_carry_pairs(folders, tmp_path, toy_options):
    for folder in folders:
        frechet.collect(folder, design="paired", **toy_options).save(tmp_path / f"{folder.name}.npz")
    stored = frechet.score(tmp_path / "a.npz", tmp_path / "b.npz")["fd"]
    direct = frechet.score(*folders, design="paired", **toy_options)["fd"]
    assert stored.sampling_design == direct.sampling_design == "60 pairs"
    assert stored.interval_95 == pytest.approx(direct.interval_95, rel=1e-9)


@pytest.mark.slow
def test_the_command_stores_clusters_and_strata(clustered, tmp_path, toy_options):
    options = [part for name, value in toy_options.items() for part in (f"--{name.replace('_', '-')}", value)]
    for arguments, kind in ((["--cluster-by", "stem"], "cluster"), (["--strata", "class"], "stratum")):
        code, _, err = run("stats", clustered, tmp_path / f"{kind}.npz", *arguments, *options)
        assert code == 0, err
        assert frechet.read_statistics(tmp_path / f"{kind}.npz").grouped_by == kind
    code, _, err = run("stats", clustered, tmp_path / "no.npz", "--cluster-by", "nowhere.csv", *options)
    assert code == 2
    assert "does not exist" in err


def test_collected_features_carry_clusters_and_strata():
    rows, classes = draw_classes(0)
    assert frechet.collect(rows, features=True, clusters=np.arange(60) // 2).n_units == 30
    stratified = frechet.collect(rows, features=True, strata=classes)
    other = draw(5, 100, 6)
    direct = frechet.score(rows, other, strata=classes, features=True)["fd"]
    assert frechet.score_statistics(stratified, frechet.collect(other, features=True))[
        "fd"
    ].standard_error == pytest.approx(direct.standard_error, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"cluster_by": "stem"}, ("no input consists of images", "clusters=")),
        ({"strata": "class"}, ("'class'", "does not consist of images", "strata=")),
        ({"clusters": range(N)}, ("the images have one image each", "share a cluster")),
        ({"clusters": {"generated": [0] * N}}, ("generated", "one entry per image")),
        ({"strata": [0] * N}, ("stratum 0 contains all of the images", "several strata")),
        ({"clusters": [0] * (N - 1)}, ("60 rows", "59")),
        ({"design": "pairs"}, ("'pairs'", "paired")),
    ],
)
def test_designs_that_do_not_fit_collected_features_are_rejected(options, parts):
    with pytest.raises(RequestError) as caught:
        frechet.collect(draw(0), features=True, **options)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_classes_of_features_are_rejected():
    """Features have no folders; the option was ignored."""
    assert_rejected(
        ("'class'", "does not consist of images", "strata="), draw(0), draw(1), features=True, strata="class"
    )


@pytest.mark.slow
@pytest.mark.parametrize("design", ["clusters", "duplicates", "strata"])
def test_a_resumed_run_has_the_interval_of_an_undisturbed_one(tmp_path, toy_options, design):
    random = np.random.default_rng(0)
    images, others = (random.integers(0, high, (600, 8, 8, 3), np.uint8) for high in (256, 200))
    images[300:] = images[:300] if design == "duplicates" else images[300:]
    for name, each in (("generated", images), ("reference", others)):
        np.save(tmp_path / f"{name}.npy", each)
    inputs = [tmp_path / "generated.npy", tmp_path / "reference.npy"]
    designs = {"clusters": {"clusters": np.arange(600) // 3}, "strata": {"strata": np.arange(600) // 100}}
    options = {**toy_options, **designs.get(design, {})}
    expected = frechet.score(*inputs, **options)["fd"]
    assert expected.sampling_design != "independent"
    frechet.score(*inputs, work_dir=tmp_path / "work", **options)
    for name in ("generated", "reference"):
        chunk = tmp_path / "work" / name / "chunk-00000001.npz"
        assert len(list(chunk.parent.glob("chunk-*"))) == 3
        chunk.unlink()
    found = frechet.score(*inputs, work_dir=tmp_path / "work", **options)["fd"]
    for name in (
        "value",
        "corrected_value",
        "standard_error",
        "interval_95",
        "permutation_p_value",
        "generated_groups",
    ):
        assert getattr(found, name) == getattr(expected, name), name


@pytest.mark.parametrize("kind", ["array", "npy", "statistics"])
def test_equal_rows_of_features_are_reported(kind, tmp_path):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 200, 4)).astype(np.float32)
    given = copies = np.repeat(x, 4, axis=0)
    if kind == "npy":
        given = tmp_path / "x.npy"
        np.save(given, copies)
    if kind == "statistics":
        given = frechet.collect(copies, features=True)

    def list_notes(generated, **options):
        return [
            each for each in frechet.fd(generated, y, features=True, **options).warnings if "rows are different" in each
        ]

    (note,) = list_notes(given)
    for part in ("200 of 800 rows are different", "independent", "clusters="):
        assert part in note
    assert list_notes(copies, design="independent") == []
    assert list_notes(copies, interval="none") == []
    assert list_notes(copies, clusters=np.repeat(np.arange(200), 4)) == []
    assert list_notes(np.concatenate([x, x[:1]])) == []  # one pair in 200 hardly matters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cluster_by", "names", "reason"),
    [
        ("folder", "{}.png", "are in one folder"),
        ("stem", "photo_{}.png", "begin with photo"),
        ("table.csv", "photo_{}.png", "table.csv has no row for the images of"),
    ],
)
def test_images_without_clusters_are_independent_next_to_clustered_ones(
    clustered, tmp_path, toy_options, cluster_by, names, reason
):
    """A single cluster of all photographs in a flat folder left no interval at all."""
    flat = make_image_folder(tmp_path / "flat", 70, seed=3, size=(8, 8))
    for path in list(flat.iterdir()):
        path.rename(path.with_name(names.format(path.stem)))
    if cluster_by == "table.csv":
        members = sorted(path.relative_to(clustered) for path in clustered.rglob("*.png"))
        cluster_by = tmp_path / cluster_by
        cluster_by.write_text("".join(f"{member},{member.parent}\n" for member in members))
    for inputs, name in (((clustered, flat), "generated"), ((flat, clustered), "reference")):
        score = frechet.score(*inputs, cluster_by=cluster_by, **toy_options)["fd"]
        assert score.sampling_design == f"clusters: 120 {name} images, as informative as 60 independent ones"
        (note,) = (each for each in score.warnings if "treated as independent" in each)
        assert all(part in note for part in (str(flat), reason, "--cluster-by FILE")), note
    fixed = frechet.score(clustered, flat, cluster_by=cluster_by, reference_is="fixed", **toy_options)["fd"]
    assert not any("treated as independent" in each for each in fixed.warnings)


def test_a_reference_without_names_is_independent_next_to_clustered_images(clustered, toy_options):
    pixels = np.random.default_rng(3).integers(0, 256, (100, 8, 8, 3), np.uint8)
    scores = frechet.score(clustered, pixels, cluster_by="stem", **toy_options)
    expected = frechet.score(clustered, pixels, clusters=np.repeat(np.arange(60), 2), **toy_options)["fd"]
    assert scores["fd"].sampling_design == "clusters: 120 generated images, as informative as 60 independent ones"
    assert scores["fd"].variance_components == pytest.approx(expected.variance_components, rel=1e-6)
    notes = [each for each in scores["fd"].warnings if "no file names" in each]
    assert len(notes) == 1
    assert "treated as independent" in notes[0]
    fixed = frechet.score(clustered, pixels, cluster_by="stem", reference_is="fixed", **toy_options)["fd"]
    assert not any("no file names" in each for each in fixed.warnings)
    assert_rejected(("has no file names", "pass clusters="), pixels, clustered, cluster_by="stem", **toy_options)
    assert_rejected(("has no file names", "pass clusters="), pixels, pixels, cluster_by="stem", **toy_options)

"""The torchmetrics interface: values of `frechet score`, alone, over ranks, and after checkpoints and pickles."""

import copy
import json
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from example_scripts import needs_examples
from forks import run_ranks
from golden_images import make_tiles
from population_distance import population_distance

import frechet
from frechet.errors import MismatchError, NonFiniteFeaturesError, RequestError, TooFewImagesError

pytest.importorskip("torchmetrics")
from torchmetrics import Metric, MetricCollection, MetricTracker

from frechet.features.spec import FeatureSpec
from frechet.integrations.layer_states import LayerStates
from frechet.integrations.torchmetrics import (
    FID,
    KID,
    ImageMetric,
    InceptionScore,
    MiFID,
    PrecisionRecall,
    padding_mask,
)
from frechet.statistics.group_moments import GroupMoments

# a warning of torchmetrics about states that update did not set
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("small_inputs"),
    pytest.mark.filterwarnings("ignore:The ``compute`` method of metric"),
]

OFFLINE = {"extractor": "efficientnet-lite0"}


@pytest.fixture(scope="module")
def images():
    """Return (generated, real) images, each (n, h, w, 3) uint8."""
    return make_tiles("skimage/data/astronaut.png", 13), make_tiles("skimage/data/coffee.png", 11)


@pytest.fixture(scope="module")
def expected(images):
    return frechet.score(*images, **OFFLINE)["fd"]


@pytest.fixture(scope="module")
def updated_metric(images):
    """Return a metric updated with both sets of images in batches of five; tests modify copies of it."""
    metric = FID(**OFFLINE)
    for real, image_set in enumerate(images):
        for batch in to_tensor(image_set).split(5):
            metric.update(batch, real=bool(real))
    return metric


def to_tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2)


class MetricOfFeatures(Metric):
    """Collects features instead of images."""

    def __init__(self, dims):
        super().__init__()
        self.states = LayerStates(image_set="generated", spec=FeatureSpec(), dims=dims, keeps_all_rows=False)
        self.states.add_to(self)

    def update(self, features):
        self.states.accumulate(self, features)

    def compute(self):
        pass

    def collect(self):
        return self.states.collect(self)


def approx(score):
    return pytest.approx(float(score), rel=1e-6)


def test_fid_equals_the_score(updated_metric, expected):
    assert float(updated_metric.compute()) == approx(expected)
    assert updated_metric.compute().dtype == torch.float64


def test_score_has_interval_and_provenance(updated_metric, expected):
    found = updated_metric.score()
    assert float(found) == approx(expected)
    assert (found.n_generated, found.n_reference) == (13, 11)
    assert found.interval_unavailable_reason == expected.interval_unavailable_reason
    assert found.provenance["weights"] == expected.provenance["weights"]
    assert found.provenance["backend"] == "torch"


def test_other_metrics_equal_the_scores(images):
    expected = frechet.score(*images, metrics=["kid", "precision", "recall", "is"], **OFFLINE)
    metrics = {"kid": KID(**OFFLINE), "is": InceptionScore(**OFFLINE), "pr": PrecisionRecall(**OFFLINE)}
    for metric in metrics.values():
        metric.update(to_tensor(images[0]))
        if metric is not metrics["is"]:
            metric.update(to_tensor(images[1]), real=True)
    assert float(metrics["kid"].compute()) == approx(expected["kid"])
    assert metrics["kid"].score().interval_95 == pytest.approx(expected["kid"].interval_95, rel=1e-4)
    assert float(metrics["is"].compute()) == approx(expected["is"])
    assert {name: float(value) for name, value in metrics["pr"].compute().items()} == {
        name: approx(expected[name]) for name in ("precision", "recall")
    }
    with pytest.raises(RequestError, match=r"real=True.*do not use them"):
        metrics["is"].update(to_tensor(images[1]), real=True)


def test_unknown_metrics_and_references_without_features_are_rejected(images, tmp_path):
    with pytest.raises(RequestError, match="'nonsense'"):
        ImageMetric(metrics=["nonsense"], **OFFLINE)
    stored = frechet.collect(images[1], **OFFLINE)
    np.savez(tmp_path / "moments.npz", mu=stored.mean, sigma=stored.covariance)
    with pytest.raises(RequestError, match="without"):
        KID(tmp_path / "moments.npz", **OFFLINE)
    with pytest.raises(MismatchError, match="pass extractor='efficientnet-lite0'"):
        FID(stored, extractor="inception")
    np.save(tmp_path / "train.npy", images[0])
    with pytest.raises(RequestError, match=r"train.npy contains one array.*frechet stats .*train.npy FILE.npz"):
        FID(tmp_path / "train.npy", **OFFLINE)


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_floating_point_images_give_the_value_of_uint8(images, expected, value_range):
    low, high = value_range
    metric = FID(value_range=value_range, **OFFLINE)
    for real, image_set in enumerate(images):
        metric.update(to_tensor(image_set).float() / 255 * (high - low) + low, real=bool(real))
    assert float(metric.compute()) == approx(expected)


def test_a_stored_reference_gives_the_same_value(images, expected, tmp_path):
    stored = frechet.collect(images[1], **OFFLINE)
    stored.save(tmp_path / "reference.npz")
    for reference in (stored, tmp_path / "reference.npz"):
        metric = FID(reference, **OFFLINE)
        metric(to_tensor(images[0]))
        assert float(metric.compute()) == approx(expected)
        with pytest.raises(RequestError, match=r"real=True.*created with a reference"):
            metric.update(to_tensor(images[1]), real=True)
    nowhere = tmp_path / "nowhere.pth"  # the checks below do not need weights
    with pytest.raises(MismatchError, match=r"extractor efficientnet-lite0, but .* those of inception"):
        FID(stored, extractor="inception", dims=64, weights=nowhere)
    with pytest.raises(
        MismatchError, match=r"64, but the extractor efficientnet-lite0, .* of images in memory, does not have"
    ):
        FID(stored, dims=64, weights=nowhere)
    with pytest.raises(MismatchError, match="precision bfloat16"):
        FID(stored, precision="bfloat16", weights=nowhere, **OFFLINE)
    with pytest.raises(RequestError, match="reference is a list"):
        FID([1], weights=nowhere)
    others = replace(stored, spec=replace(stored.spec, weights=64 * "0"))
    with pytest.raises(MismatchError, match="weights"):
        FID(others, **OFFLINE)


def test_a_mask_leaves_images_out(images, expected):
    metric = FID(**OFFLINE)
    generated, real = map(to_tensor, images)
    metric.update(torch.cat([generated, generated[:3]]), mask=torch.arange(16) < 13)
    metric.update(real[:0], real=True)
    metric.update(real, real=True, mask=torch.ones(11, dtype=torch.bool))
    metric.update(real, real=True, mask=torch.zeros(11, dtype=torch.bool))
    assert float(metric.compute()) == approx(expected)
    for wrong in (torch.ones(11), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(RequestError, match="expected bool of shape"):
            metric.update(real, mask=wrong)


def test_reset_discards_real_images_only_if_reset_real_features(updated_metric, images, expected):
    metric = copy.deepcopy(updated_metric)
    metric.reset_real_features = False
    metric.reset()
    with pytest.raises(TooFewImagesError, match="0 generated images"):
        metric.compute()
    metric.update(to_tensor(images[0]))
    assert float(metric.compute()) == approx(expected)
    metric.reset_real_features = True
    metric.reset()
    metric.update(to_tensor(images[0]))
    with pytest.raises(TooFewImagesError, match=r"0 real images; .*real=True"):
        metric.compute()


def test_pickle_and_state_dict_restore_the_state(updated_metric, expected):
    restored = pickle.loads(pickle.dumps(updated_metric))
    assert float(restored.compute()) == approx(expected)
    assert not updated_metric.state_dict()  # as in torchmetrics: only if persistent
    restored.persistent(True)
    fresh = FID(**OFFLINE)  # loading does not depend on persistent
    fresh.load_state_dict(restored.state_dict())
    assert float(fresh.compute()) == approx(expected)


def test_conversions_to_half_leave_the_value_unchanged(updated_metric, expected):
    metric = copy.deepcopy(updated_metric).half().set_dtype(torch.float16)
    torch.nn.ModuleList([metric]).half()
    torch.nn.ModuleList([metric]).to(torch.float16)  # as Lightning does with precision="16-true"
    assert float(metric.compute()) == approx(expected)
    assert metric.generated_outer.dtype == torch.float64
    assert metric.generated_rows[0].dtype == torch.float32


def assert_same_groups(found, expected):
    np.testing.assert_array_equal(found.n, expected.n)
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-12)
    np.testing.assert_allclose(found.scatter, expected.scatter, rtol=1e-6, atol=1e-3)


def test_rows_are_subsampled_to_what_an_interval_needs():
    """The sample and the moments of groups equal those of `frechet.Statistics` from the same features."""
    random = np.random.default_rng(0)
    features = random.standard_normal((9000, 64)).astype(np.float32)
    metric = MetricOfFeatures(64)
    for batch in torch.from_numpy(features).split(700):
        metric.update(batch)
    assert sum(map(len, metric.generated_rows)) < 8192
    found, expected = metric.collect(), frechet.Statistics.from_features(features)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-9, atol=1e-12)
    assert_same_groups(found.group_moments, expected.group_moments)


def test_moments_of_groups_are_merged_over_ranks():
    """One rank has dropped rows, and the other one has not; torchmetrics concatenates their states."""
    features = np.random.default_rng(0).standard_normal((10_000, 64)).astype(np.float32)
    ranks = [MetricOfFeatures(64), MetricOfFeatures(64)]
    for metric, share in zip(ranks, (features[:9000], features[9000:]), strict=True):
        for batch in torch.from_numpy(share).split(700):
            metric.update(batch)
    one, other = ranks
    other.generated_indices = [indices + 9000 for indices in other.generated_indices]
    assert (len(one.generated_groups), len(other.generated_groups)) == (1, 0)
    other.states.add_empty_rows(other)
    for name in other.states.sum_names:
        setattr(one, name, getattr(one, name) + getattr(other, name))
    for name in other.states.row_names:
        setattr(one, name, torch.cat([*getattr(one, name), *getattr(other, name)]))
    assert_same_groups(one.collect().group_moments, GroupMoments.from_features(features, np.arange(10_000), seed=0))


def test_a_collapsed_generator_has_a_score():
    """The covariance from its sums consists of rounding errors of either sign."""
    random = np.random.default_rng(0)
    features = np.tile(random.random(64).astype(np.float32), (300, 1))
    reference = frechet.Statistics.from_features(random.random((400, 64)).astype(np.float32))
    metric = MetricOfFeatures(64)
    for batch in torch.from_numpy(features).split(7):
        metric.update(batch)
    collapsed = metric.collect()
    assert np.linalg.eigvalsh(collapsed.covariance).min() < 0
    found, expected = (
        frechet.score_statistics(statistics, reference)["fd"]
        for statistics in (collapsed, frechet.Statistics.from_features(features))
    )
    assert found.value == pytest.approx(expected.value, rel=1e-6)
    assert found.corrected_value == pytest.approx(expected.corrected_value, rel=1e-4)
    assert found.interval_95 == pytest.approx(expected.interval_95, rel=1e-4)


def test_invalid_images_are_rejected(images, monkeypatch):
    metric = FID(**OFFLINE)
    batch = to_tensor(images[0])
    for wrong, message in (
        (batch[0], r"shape \(3, .*expected \(n, 3, h, w\)"),
        (batch[:, :1], r"images.expand\(-1, 3, -1, -1\)"),
        (batch[:, :, :0], r"\(13, 3, 0, 64\); expected"),
        (images[0], "ndarray"),
        (batch.int(), "torch.int32; expected uint8"),
        (batch.float(), "images range from .* to 2.*; expected 0 to 1"),
        (torch.stack([torch.zeros(3, 8, 8), torch.full((3, 8, 8), torch.nan)]), "image 1 of the batch contains NaN"),
        (torch.zeros(4, 8, 8, 3), r"move the channels first, images.permute\(0, 3, 1, 2\)"),
        (batch.to("meta"), "on meta and the network is on cpu"),
    ):
        with pytest.raises(RequestError, match=message):
            metric.update(wrong)
    assert int(metric.generated_n) == 0
    monkeypatch.setattr(metric._network, "_run_network", lambda x: torch.full((len(x), 1280), torch.nan))
    with pytest.raises(NonFiniteFeaturesError, match="image 0 of the batch"):
        metric.update(batch)


def test_a_collection_updates_equal_metrics_once(images, expected, monkeypatch):
    """torchmetrics merges metrics with equal states and updates only the first."""
    collection = MetricCollection({"one": FID(**OFFLINE), "other": ImageMetric(**OFFLINE)})
    for real, image_set in enumerate(images):
        collection.update(to_tensor(image_set), real=bool(real))
    assert len(collection.compute_groups) == 1
    found = collection.compute()
    assert float(found["one"]) == approx(expected)


def test_a_collection_does_not_merge_different_metrics(toy_options, monkeypatch):
    """FID keeps a sample of the rows and KID all; after an empty batch the sums of any two metrics are equal."""
    monkeypatch.setattr("frechet.integrations.layer_states.MAX_SAMPLE_ROWS", 8)
    batches = torch.randint(0, 256, (6, 7, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def metrics():
        others = {"kid": KID(**toy_options), "clean": FID(preprocessing="clean", **toy_options)}
        return {"fid": FID(**toy_options), **others}

    def update(metric):
        metric.update(batches[0, :0])
        for index, batch in enumerate(batches):
            metric.update(batch, real=index % 2 == 1)
        return metric.compute()

    alone = {name: float(update(metric)) for name, metric in metrics().items()}
    together = update(MetricCollection(metrics()))
    assert {name: float(value) for name, value in together.items()} == alone


RANKS = """
import json, sys, torch, numpy as np
import torch.distributed as dist
from frechet.features.registry import register_extractor
from frechet.integrations.torchmetrics import (
    FID,
    KID,
    ImageMetric,
    InceptionScore,
    MiFID,
    MiFID,
    PrecisionRecall,
    padding_mask,
)
rank, store, cases, weights = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
from toy_extractor import TOY_EXTRACTOR
register_extractor("toy-name", TOY_EXTRACTOR)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
for shares in cases:
    with torch.inference_mode(shares["inference_mode"]):
        metric = FID(extractor="toy-name", weights=weights)

    def update():
        for real, name in enumerate(("generated", "real")):
            images = torch.from_numpy(np.load(f"{store}.{name}.npy")).permute(0, 3, 1, 2)
            start, stop = shares[name][rank]
            for batch in images[start:stop].split(4):
                metric.update(batch, real=bool(real))

    update()
    with torch.inference_mode(shares["inference_mode"]):
        first = float(metric.compute())
        n_local = int(metric.generated_n)
        score = float(metric.score())
    update()  # outside of inference mode again
    with torch.inference_mode(shares["inference_mode"]):
        doubled = float(metric.compute())
        metric.reset()
    update()
    print(json.dumps([first, score, float(metric.compute()), doubled, n_local]))
dist.destroy_process_group()
"""


SHARES = [
    {"generated": [[0, 9], [9, 13]], "real": [[0, 2], [2, 11]], "inference_mode": False},  # uneven
    {"generated": [[0, 13], [13, 13]], "real": [[0, 0], [0, 11]], "inference_mode": False},  # each lacks one kind
    {"generated": [[0, 9], [9, 13]], "real": [[0, 2], [2, 11]], "inference_mode": True},  # Lightning's validation
]


@pytest.mark.subprocess
def test_two_processes_give_the_value_of_one(images, toy_options, tmp_path):
    """The expected values are calculated in NumPy from the features of one process."""
    rows = [frechet.collect(each, **toy_options).features.astype(np.float64) for each in images]
    expected, expected_twice = (
        population_distance(np.tile(rows[0], (n, 1)), np.full(n * 13, 1 / (n * 13)), np.tile(rows[1], (n, 1)))
        for n in (1, 2)
    )
    for name, image_set in zip(("generated", "real"), images, strict=True):
        np.save(tmp_path / f"store.{name}.npy", image_set)
    with run_ranks(tmp_path, RANKS, tmp_path / "store", json.dumps(SHARES), toy_options["weights"]) as ranks:
        outputs = [rank.finish() for rank in ranks]
    for rank, out in enumerate(outputs):
        for shares, line in zip(SHARES, out.splitlines()[-len(SHARES) :], strict=True):
            *values, doubled, n_local = json.loads(line)
            assert values == [approx(expected)] * 3  # each call synchronises the original states
            assert doubled == approx(expected_twice)
            start, stop = shares["generated"][rank]
            assert n_local == stop - start  # each rank has its own state back


def test_a_lightning_trainer_logs_the_value(images, expected, tmp_path):
    pytest.importorskip("lightning")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Lightning advises on workers and loggers, and its imports raise deprecation warnings
        import lightning

        class Model(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(2, 1)
                self.fid = FID(reset_real_features=False, **OFFLINE)
                self.fid.update(to_tensor(images[1]), real=True)

            def training_step(self, batch, _):
                return self.layer(torch.ones(1, 2)).sum() + 0 * batch.float().sum()

            def validation_step(self, batch, _):
                self.fid.update(batch)
                self.log("fid", self.fid)

            def on_validation_epoch_end(self):
                score = self.fid.score()
                self.log("fid_n", float(score.n_generated))

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        loader = torch.utils.data.DataLoader(list(to_tensor(images[0])), batch_size=5)
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(Model(), loader, loader)
    assert float(trainer.callback_metrics["fid"]) == approx(expected)
    assert float(trainer.callback_metrics["fid_n"]) == 13


@needs_examples
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("plain_pytorch.py", ["--offline"]),
        ("accelerate_loop.py", ["--extractor", "efficientnet-lite0", "--images", "11", "--epochs", "1"]),
    ],
)
def test_the_examples_run(run_example, images, tmp_path, monkeypatch, name, arguments):
    if name.startswith("accelerate"):
        pytest.importorskip("accelerate")
    frechet.collect(images[1], **OFFLINE).save(tmp_path / "reference.npz")
    monkeypatch.chdir(tmp_path)
    printed = "\n".join(run_example(name, "reference.npz", *arguments))
    assert "FD-EfficientNet-Lite0: " in printed or "'fid': " in printed


def test_a_reference_is_validated_before_weights_are_loaded(tmp_path):
    with pytest.raises(RequestError, match=r"nope\.npz"):
        FID(tmp_path / "nope.npz", weights=tmp_path / "nowhere.pth")
    with pytest.raises(RequestError, match=r"value_range is \(1, -1\); expected \(black, white\)"):
        FID(value_range=(1, -1), weights=tmp_path / "nowhere.pth")


def test_a_metric_reset_in_inference_mode_can_be_updated_outside_of_it(images, expected):
    """Lightning validates in inference mode, a training loop often does not."""
    metric = FID(**OFFLINE)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            metric.update(to_tensor(images[0]))
            metric.update(to_tensor(images[1]), real=True)
            assert float(metric.compute()) == approx(expected)
        with torch.inference_mode():
            metric.reset()


def test_metrics_of_several_layers_come_from_one_pass(images, monkeypatch):
    """The classifier's features of the Inception Score, and the features of the others."""
    names = ["fd", "kid", "is", "precision", "recall"]
    expected = frechet.score(*images, metrics=names, **OFFLINE)
    metric = ImageMetric(metrics=names, **OFFLINE)
    sizes = []
    run = metric._network._run_network
    monkeypatch.setattr(metric._network, "_run_network", lambda x: sizes.append(len(x)) or run(x))
    for real, image_set in enumerate(images):
        metric.update(to_tensor(image_set), real=bool(real))
    assert sizes == [13, 11]
    found = metric.compute()
    assert {name: float(value) for name, value in found.items()} == {name: approx(expected[name]) for name in names}
    scores = metric.scores()
    assert scores["is"].provenance["generated"]["n"] == 13
    assert float(scores["is"]) == approx(expected["is"])


def test_equal_extractors_and_copies_share_a_network(images, expected):
    metric = FID(**OFFLINE)
    tracker = MetricTracker(metric, maximize=False)
    for image_set in (images, images[::-1]):
        tracker.increment()
        for real, each in enumerate(image_set):
            tracker.update(to_tensor(each), real=bool(real))
    assert float(tracker.compute_all()[0]) == approx(expected)
    collection = MetricCollection({"fid": metric, "kid": KID(**OFFLINE)}).clone()
    networks = {id(each._network) for each in (metric, *list(tracker)[1:], *collection.values(), copy.deepcopy(metric))}
    assert len(networks) == 1
    assert KID(precision="bfloat16", **OFFLINE)._network is not metric._network


def test_moving_a_copy_leaves_the_other_metrics_where_they_are():
    metric = FID(**OFFLINE)
    moved = metric.clone().to("meta")
    assert moved._network.device.type == moved.generated_total.device.type == "meta"
    assert metric._network.device.type == metric.generated_total.device.type == "cpu"
    assert metric.clone().to("meta")._network is moved._network
    with torch.device("meta"):
        assert FID(**OFFLINE)._network is moved._network


def test_a_mifid_equals_the_score(images):
    metric = MiFID(**OFFLINE)
    for real, image_set in enumerate(images):
        metric.update(to_tensor(image_set), real=bool(real))
    assert float(metric.compute()) == approx(frechet.score(*images, metrics="mifid", **OFFLINE)["mifid"])


@pytest.mark.parametrize("width", [64, 40])
def test_a_module_of_the_user_is_an_extractor(images, width):
    """Its default preprocessing resizes in 8 bits, with square images on the device, and with others on the host."""
    images = [np.ascontiguousarray(each[:, :, :width]) for each in images]
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    module.input_size = 8
    metric = FID(extractor=module)
    for real, image_set in enumerate(images):
        metric.update(to_tensor(image_set), real=bool(real))
    assert float(metric.compute()) == approx(frechet.score(*images, extractor=module)["fd"])


@pytest.mark.parametrize(
    ("metric", "argument", "words"),
    [
        (FID, {"feature": 64}, ("feature=", "dims=", "extractor=")),
        (FID, {"normalize": True}, ("normalize=", "value_range=")),
        (FID, {"antialias": False}, ("antialias=", "preprocessing=")),
        (KID, {"subsets": 10}, ("subsets=", "all pairs")),
        (KID, {"subset_size": 10}, ("subset_size=", "all pairs")),
        (InceptionScore, {"splits": 5}, ("splits=", "frechet.score")),
        (MiFID, {"cosine_distance_eps": 0.2}, ("cosine_distance_eps=", "frechet.score")),
    ],
)
def test_arguments_of_torchmetrics_are_rejected_with_their_equivalent(metric, argument, words):
    with pytest.raises(RequestError) as caught:
        metric(**argument, **OFFLINE)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FID(metrics=["kid"]), r"FID\(\) has no keyword argument 'metrics'; use ImageMetric\(metrics="),
        (lambda: PrecisionRecall(metrics=["kid"]), r"PrecisionRecall\(\) has no keyword argument 'metrics'"),
        (lambda: InceptionScore(dims=64), r"InceptionScore\(\) has no keyword argument 'dims'; .*logits"),
        (lambda: FID(extractr="inception"), r"FID\(\) .* 'extractr'; did you mean 'extractor'"),
        (lambda: ImageMetric(metric=["fid"]), r"ImageMetric\(\) .* 'metric'; did you mean 'metrics'"),
    ],
)
def test_unknown_keywords_are_rejected_with_the_nearest(make, message):
    with pytest.raises(TypeError, match=message):
        make()
    with pytest.raises(ValueError, match="sync_on_compute"):
        FID(sync_on_compute=3)


def test_metrics_may_be_one_text():
    assert ImageMetric(metrics="fd", **OFFLINE).metrics == ("fd",)
    assert ImageMetric(metrics="fd, kid", **OFFLINE).metrics == ("fd", "kid")
    with pytest.raises(RequestError, match="metrics is empty"):
        ImageMetric(metrics=[], **OFFLINE)


def test_checkpoints_with_the_network_of_torchmetrics_load():
    """torchmetrics stores the network of a metric in the checkpoint of the model that owns it."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)
            self.fid = FID(**OFFLINE)

    model = Model()
    state = {**model.state_dict(), "fid.inception.Conv2d_1a_3x3.conv.weight": torch.zeros(2)}
    model.load_state_dict(state)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        model.load_state_dict({**state, "fid.something_else": torch.zeros(2)})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_accelerate_prepares_a_metric(images, expected):
    accelerate = pytest.importorskip("accelerate")
    metric = accelerate.Accelerator(cpu=True).prepare(FID(**OFFLINE))
    for real, image_set in enumerate(images):
        metric.update(to_tensor(image_set), real=bool(real))
    assert float(metric.compute()) == approx(expected)


@pytest.mark.parametrize("n", [1, 4, 5, 12, 13, 16, 23])
@pytest.mark.parametrize("kind", ["distributed", "accelerate", "accelerate, split batches"])
def test_padding_masks_count_each_image_once(n, kind):
    """The images that are counted over three ranks are those of the data set, each once."""
    ranks, size = 3, 6 if kind.endswith("split batches") else 4
    counted = []
    for rank in range(ranks):
        if kind == "distributed":
            sampler = torch.utils.data.DistributedSampler(range(n), ranks, rank, shuffle=False)
            loader = torch.utils.data.DataLoader(range(n), batch_size=size, sampler=sampler)
        else:
            data_loader = pytest.importorskip("accelerate.data_loader")
            plain = torch.utils.data.DataLoader(range(n), batch_size=size)
            shard = data_loader.BatchSamplerShard(plain.batch_sampler, ranks, rank, split_batches="split" in kind)
            loader = torch.utils.data.DataLoader(range(n), batch_sampler=shard)
        for index, batch in enumerate(loader):
            counted += batch[padding_mask(loader, index, len(batch))].tolist()
    assert sorted(counted) == list(range(n))


def test_a_loader_without_a_distributed_sampler_needs_no_mask():
    assert padding_mask(torch.utils.data.DataLoader(range(5), batch_size=2), 2, 1).tolist() == [True]


@pytest.mark.parametrize("is_batched_by_loader", [True, False])
def test_a_distributed_sampler_within_a_batch_sampler_is_found(is_batched_by_loader):
    sampler = torch.utils.data.DistributedSampler(range(5), 2, 1, shuffle=False)
    batches = torch.utils.data.BatchSampler(sampler, 2, drop_last=False)
    options = {"batch_sampler": batches} if is_batched_by_loader else {"batch_size": None, "sampler": batches}
    loader = torch.utils.data.DataLoader(range(5), **options)
    assert padding_mask(loader, 1, 1).tolist() == [False]  # images 1 and 3, and then 0 again
    batches.batch_size = None
    with pytest.raises(RequestError, match="no batch size"):
        padding_mask(loader, 1, 1)


def test_loaders_that_repeat_an_unknown_number_of_items_are_rejected():
    data_loader = pytest.importorskip("accelerate.data_loader")

    class Numbers(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(5))

    loader = torch.utils.data.DataLoader(Numbers(), batch_size=2)
    for dispatch in (False, True):
        prepared = data_loader.prepare_data_loader(
            loader, num_processes=2, process_index=0, dispatch_batches=dispatch, put_on_device=True
        )
        with pytest.raises(RequestError, match="unknown number of items"):
            padding_mask(prepared, 0, 2)

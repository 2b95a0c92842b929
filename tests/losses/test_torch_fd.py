"""The Fréchet distance of a population as a loss: gradients against finite differences of an independent calculation."""

import copy
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.fx.experimental._config
import torch_fd_ranks
from forks import run_ranks
from population_distance import central_differences, population_distance
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import frechet
from frechet.distances.gaussian import Gaussian, eigendecompose
from frechet.errors import MismatchError, RequestError
from frechet.features import identity_parts
from frechet.features.spec import FeatureSpec
from frechet.losses.population_settings import PopulationSettings
from frechet.losses.torch import FDLoss, FIDLoss, ImageFeatures
from frechet.losses.torch_memory import make_memory
from frechet.losses.torch_population import PopulationDistance

DIMS = 7


def draw_features(n, seed, dims=DIMS):
    """Return correlated features that float32 represents exactly."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((dims, dims))
    return (random.standard_normal((n, dims)) @ mixing + 0.1 * seed).astype(np.float32).astype(np.float64)


def make_distance(memory, *, size=12, decay=None, refresh=1, reference=None):
    reference = torch.from_numpy(draw_features(30, 50) if reference is None else reference)
    settings = PopulationSettings(size=size, memory=memory, decay=decay, refresh=refresh)
    gaussian = Gaussian.from_features(reference).with_factor()
    return PopulationDistance(gaussian, make_memory(settings, DIMS), FeatureSpec(extractor="toy"))


def change_refresh(distance, refresh):
    distance.settings = replace(distance.settings, refresh=refresh)


def weigh_batches(memory, sizes, *, size=12, decay=None):
    """Return the weight of every row of some batches, by the definitions of the two memories."""
    if memory == "queue":
        kept = np.arange(sum(sizes)) >= sum(sizes) - size
        return kept / kept.sum()
    new = [n / size if decay is None else 1 - decay for n in sizes]
    by_batch = [share * np.prod([1 - later for later in new[i + 1 :]]) for i, share in enumerate(new)]
    rows = np.concatenate([np.full(n, weight / n) for n, weight in zip(sizes, by_batch, strict=True)])
    return rows / rows.sum()


@pytest.mark.parametrize(
    ("memory", "decay"), [("queue", None), ("ema", None), ("ema", 0.6)], ids=["queue", "ema", "ema with decay"]
)
@pytest.mark.parametrize("sizes", [[4], [4, 4], [4, 4, 4], [4] * 5, [3, 5, 2, 6, 3], [4, 12], [2] * 9], ids=str)
def test_value_and_gradient_equal_those_of_the_whole_population(memory, decay, sizes):
    """Of 12 rows in 7 dimensions: fewer rows than dimensions, part-filled, full, wrapped, and replaced as a whole."""
    batches = [draw_features(n, seed) for seed, n in enumerate(sizes)]
    if memory == "ema" and decay is None and max(sizes) == 12:
        decay = 0.0
    weights = weigh_batches(memory, sizes, decay=decay)
    distance = make_distance(memory, decay=decay)
    for batch in batches[:-1]:
        distance(torch.from_numpy(batch))
    last = torch.from_numpy(batches[-1]).requires_grad_()
    value = distance(last)
    value.backward()

    def compute(rows):
        return population_distance(np.concatenate([*batches[:-1], rows]), weights, draw_features(30, 50))

    expected = central_differences(compute, batches[-1])
    assert float(value.detach()) == pytest.approx(compute(batches[-1]), rel=1e-9)
    assert np.abs(last.grad.numpy() - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["queue", "ema"])
def test_an_earlier_map_gives_a_lower_bound_and_its_gradient(memory):
    exact, stale = make_distance(memory, size=96), make_distance(memory, size=96)
    for seed in range(28):
        change_refresh(stale, 1 if seed < 25 else 100)
        batch = torch.from_numpy(draw_features(4, seed))
        values = [float(distance(batch)) for distance in (exact, stale)]
    assert 0.5 * values[0] < values[1] < values[0]
    stale.eval()
    x = torch.from_numpy(draw_features(4, 29)).requires_grad_()
    stale(x).backward()
    expected = central_differences(lambda rows: float(stale(torch.from_numpy(rows))), x.detach().numpy())
    assert np.abs(x.grad.numpy() - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize(("refresh", "decompositions"), [(1, 12), (2, 6), (3, 4), (100, 4)])
def test_the_map_is_computed_every_k_batches_and_more_often_while_the_population_fills(
    monkeypatch, refresh, decompositions
):
    """A batch is a twelfth of the full population, of which at most a quarter is replaced under one map."""
    calls = []
    original = PopulationDistance._compute_map
    monkeypatch.setattr(
        PopulationDistance, "_compute_map", lambda self, moments: calls.append(1) or original(self, moments)
    )
    distance = make_distance("queue", size=48, refresh=refresh)
    counts = [0]
    for steps in (range(12), range(12, 24)):
        for seed in steps:
            distance(torch.from_numpy(draw_features(4, seed)))
        counts.append(len(calls))
    assert decompositions <= counts[1] <= 12
    assert counts[2] - counts[1] == decompositions


def test_staleness_is_one_minus_the_cosine_between_the_gradients_of_the_old_and_the_new_map():
    distance = make_distance("queue", size=48, refresh=3)
    for seed in range(14):
        distance(torch.from_numpy(draw_features(4, seed)))
    batch = torch.from_numpy(draw_features(4, 14))
    gradients = []
    for refresh in (100, 1):  # with the old map, and with the one of this batch
        frozen, leaf = copy.deepcopy(distance).eval(), batch.clone().requires_grad_()
        change_refresh(frozen, refresh)
        frozen(leaf).backward()
        gradients.append(leaf.grad.flatten())
    change_refresh(distance, 1)
    distance(batch)
    cosine = float(gradients[0] @ gradients[1] / (gradients[0].norm() * gradients[1].norm()))
    assert distance.staleness == pytest.approx(1 - cosine, rel=1e-9)
    assert 1e-6 < distance.staleness < 1


def test_gradients_reach_images_of_all_extractors_in_microbatches(toy_options):
    """Two networks, of which one is a function, and weights that differ."""
    images, reference = draw_images(9), draw_images(14, seed=1)
    extractors = [ImageFeatures(**toy_options), ImageFeatures(extractor="toy_network:corner")]
    options = {"extractors": extractors, "population": 12, "normalise": False, "weight": [1.0, 0.3], "refresh": 1}
    whole, split, expected = FDLoss(reference, **options), FDLoss(reference, **options), torch.zeros(4, 3, 8, 8)
    for loss in (whole, split):
        loss.observe(images[4:])
    leaf = images[:4].clone().requires_grad_()
    value = whole(leaf)
    value.backward()
    own = [FDLoss(reference, **{**options, "extractors": each, "weight": 1.0}) for each in extractors]
    for weight, loss in zip((1.0, 0.3), own, strict=True):
        loss.observe(images[4:])
        single = images[:4].clone().requires_grad_()
        loss(single).backward()
        expected += weight * single.grad
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-4, atol=1e-7)
    again = images[:4].clone().requires_grad_()
    found = split.backward_in_microbatches(lambda start, stop: again[start:stop], 4, size=3)
    assert float(found) == pytest.approx(float(value.detach()), rel=1e-6)
    torch.testing.assert_close(again.grad, leaf.grad, rtol=1e-4, atol=1e-7)
    for one, other in zip(whole.populations, split.populations, strict=True):
        torch.testing.assert_close(other.memory.rows, one.memory.rows)
        torch.testing.assert_close(other.memory.covariance, one.memory.covariance, rtol=1e-5, atol=1e-9)


def draw_images(n, seed=0):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_population_of_one_batch_is_fid(toy_options):
    images, reference = draw_images(6), draw_images(9, seed=1)
    leaves = [images.clone().requires_grad_() for _ in range(2)]
    population = FDLoss(
        reference,
        extractors=toy_options["extractor"],
        weights=toy_options["weights"],
        population=6,
        normalise=False,
        refresh=1,
    )
    batch = FIDLoss(reference, **toy_options)
    for loss, leaf in zip((population, batch), leaves, strict=True):
        loss(draw_images(6, seed=5))
        loss(leaf).backward()
    assert float(population.distances[0]) == pytest.approx(float(batch(images)), rel=1e-6)
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-5, atol=1e-8)


def make_toy_loss(toy_options, **options):
    return FDLoss(
        draw_images(9, seed=1),
        **{"extractors": ImageFeatures(**toy_options), "population": 12, "refresh": 3, **options},
    )


def test_normalised_gradients_are_divided_by_the_distance(toy_options):
    plain, normalised = (make_toy_loss(toy_options, normalise=each, weight=2.0) for each in (False, True))
    leaves = [draw_images(4).requires_grad_() for _ in range(2)]
    plain(leaves[0]).backward()
    value = normalised(leaves[1])
    value.backward()
    assert float(value.detach()) == pytest.approx(2, rel=1e-6)
    expected = leaves[0].grad / plain.distances[0]
    torch.testing.assert_close(leaves[1].grad, expected.float(), rtol=1e-5, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["queue", "ema"])
def test_a_restart_continues_identically(toy_options, tmp_path, memory):
    loss = make_toy_loss(toy_options, memory=memory, population=48)
    for seed in range(14):
        loss(draw_images(4, seed))
    torch.save(loss.state_dict(), tmp_path / "loss.pt")
    other = make_toy_loss(toy_options, memory=memory, population=48)
    other.load_state_dict(torch.load(tmp_path / "loss.pt", weights_only=True))
    for seed in range(14, 20):
        leaves = [draw_images(4, seed).requires_grad_() for _ in range(2)]
        values = [each(leaf) for each, leaf in zip((loss, other), leaves, strict=True)]
        for value in values:
            value.backward()
        assert values[0].item() == values[1].item()
        assert torch.equal(leaves[0].grad, leaves[1].grad)
    assert loss.staleness == other.staleness
    assert loss.staleness[0] > 0


def test_a_state_of_another_population_is_rejected(toy_options):
    state = make_toy_loss(toy_options).state_dict()
    for options, message in (
        ({"population": 13}, "size 12 instead of 13"),
        ({"memory": "ema"}, "memory queue instead of ema"),
        ({"extractors": ImageFeatures(extractor="toy_network:corner")}, "toy-name instead of toy_network:corner"),
    ):
        with pytest.raises(MismatchError, match=message):
            make_toy_loss(toy_options, **options).load_state_dict(state)


def test_a_state_of_another_decay_is_rejected(toy_options):
    state = make_toy_loss(toy_options, memory="ema", decay=0.9).state_dict()
    with pytest.raises(MismatchError, match=r"decay 0\.9 instead of 0\.1"):
        make_toy_loss(toy_options, memory="ema", decay=0.1).load_state_dict(state)


def test_a_population_may_be_restored_for_another_reference():
    """The next distance is that to the new reference, although the map to the old one would be kept."""
    distance = make_distance("queue", size=48, refresh=3)
    for seed in range(14):
        distance(torch.from_numpy(draw_features(4, seed)))
    options = {"size": 48, "reference": draw_features(30, 60)}
    restored, expected = make_distance("queue", refresh=3, **options), make_distance("queue", **options)
    for each in (restored, expected):
        each.load_state_dict(distance.state_dict())
    batch = torch.from_numpy(draw_features(4, 14))
    assert float(restored(batch)) == pytest.approx(float(expected(batch)), rel=1e-9)


@pytest.mark.slow
def test_normalised_gradients_are_close_to_exact_ones_while_the_population_approaches_the_reference():
    """With a kept map, the distance would become negative, and the gradient 40,000 times too large."""
    random = torch.Generator().manual_seed(0)

    def draw(width):
        return (0.5 + width * (torch.rand(8, 3, 1, 1, generator=random) - 0.5)).repeat(1, 1, 4, 4)

    def mean_color(images):
        return images.mean((2, 3))

    mean_color.input_size = 4
    reference = torch.cat([draw(0.2) for _ in range(40)])
    losses = [FDLoss(reference, extractors=mean_color, population=128, refresh=refresh) for refresh in (8, 1)]
    for step in range(48):
        leaves = [draw(1.0 if step < 19 else 0.2).requires_grad_()]
        leaves.append(leaves[0].detach().clone().requires_grad_())
        for loss, leaf in zip(losses, leaves, strict=True):
            loss(leaf).backward()
        if step >= 16:  # the population is full
            assert (leaves[0].grad - leaves[1].grad).norm() <= 0.5 * leaves[1].grad.norm()


@pytest.mark.slow
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_loss_that_is_recomputed_in_the_backward_pass_is_rejected(toy_options, use_reentrant):
    loss = make_toy_loss(toy_options)
    value = checkpoint(loss, draw_images(4).requires_grad_(), use_reentrant=use_reentrant)
    with pytest.raises(RequestError, match=r"second time in the backward pass.*gradient_checkpointing=True"):
        value.backward()
    assert loss.populations[0].memory.count == 4


def test_evaluation_mode_changes_nothing(toy_options):
    loss = make_toy_loss(toy_options)
    loss(draw_images(4))
    before = copy.deepcopy(loss.state_dict())
    loss.eval()
    value = float(loss(draw_images(4, seed=2)))
    assert value == float(loss(draw_images(4, seed=2)))
    assert str(loss.state_dict()) == str(before)


def test_invalid_arguments_are_rejected(toy_options):
    for call in (
        make_toy_loss(toy_options),
        make_toy_loss(toy_options).observe,
        make_toy_loss(toy_options, memory="ema"),
    ):
        with pytest.raises(RequestError, match=r"batch has 13 images and the population 12; .*population of 13"):
            call(draw_images(13))
    for options, message in (
        ({"memory": "list"}, "'list'"),
        ({"decay": 0.9}, "memory is 'queue'"),
        ({"memory": "ema", "decay": 1.0}, "decay is 1.0; expected"),
        ({"refresh": 0}, "refresh is 0"),
        ({"population": 1}, "population is 1"),
        ({"weight": [1.0, 2.0]}, "weight has 2 entries for 1 extractors"),
        ({"weight": float("nan")}, "weight is nan; expected a finite number of at least 0"),
        ({"weight": -1}, "weight is -1; expected a finite number of at least 0"),
        ({"extractors": []}, "extractors is empty"),
        ({"precision": "float32"}, "precision was passed with"),
    ):
        with pytest.raises(RequestError, match=message):
            make_toy_loss(toy_options, **options)


def test_half_precision_of_the_caller_leaves_the_population_exact(toy_options):
    plain, inside = make_toy_loss(toy_options), make_toy_loss(toy_options).half()
    plain(draw_images(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside(draw_images(4))
    assert torch.equal(plain.populations[0].memory.covariance, inside.populations[0].memory.covariance)


class ScalarsOfMeta(TorchDispatchMode):
    """Answers what programs ask of tensors without data, which cannot be copied to the CPU, and records the types."""

    def __init__(self, condition):
        super().__init__()
        self.condition, self.asked = condition, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is not torch.ops.aten._local_scalar_dense.default:
            return function(*args, **(kwargs or {}))
        self.asked.append(args[0].dtype)
        return self.condition if args[0].dtype == torch.bool else 1.0


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["queue", "ema"])
@pytest.mark.parametrize("condition", [True, False], ids=["from eigenvalues", "from singular values"])
def test_only_scalars_leave_the_device(memory, condition):
    # singular values need the number of factors, which PyTorch only assumes if it is allowed to
    allowed = torch.fx.experimental._config.patch(meta_nonzero_assume_all_nonzero=not condition)
    distance = make_distance(memory, size=48).to("meta")
    with allowed, ScalarsOfMeta(condition) as scalars:
        for _ in range(14):
            features = torch.empty(4, DIMS, dtype=torch.float64, device="meta", requires_grad=True)
            scalars.asked.clear()
            value = distance(features)
            value.backward()
            assert value.device == features.grad.device == torch.device("meta")
            assert len(scalars.asked) <= 6
    assert all(buffer.is_meta for buffer in distance.buffers())


def test_float32_features_have_the_gradient_of_float64():
    """Central differences of an independent calculation in float64, at rows that float32 represents exactly."""

    def seven_values(images):
        return images.flatten(1)[:, :DIMS]

    seven_values.input_size = 8
    loss = FDLoss(draw_images(9, seed=1), extractors=seven_values, population=12, normalise=False)
    reference, batches = draw_features(30, 50), [draw_features(4, seed) for seed in range(4)]
    loss.populations[0] = make_distance("queue")
    for batch in batches:
        leaf = torch.from_numpy(batch).float().requires_grad_()
        value = loss._compute_loss(leaf)
    value.backward()

    def compute(rows):
        return population_distance(np.concatenate([*batches[1:3], rows]), np.full(12, 1 / 12), reference)

    expected = central_differences(compute, batches[3])
    assert leaf.grad.dtype == torch.float32
    assert np.abs(leaf.grad.numpy() - expected).max() <= 1e-6 * np.abs(expected).max()


def test_second_derivatives_and_torch_func(toy_options):
    loss = make_toy_loss(toy_options)
    images = draw_images(4)
    copied = copy.deepcopy(loss)
    leaf = images.clone().requires_grad_()
    copied(leaf).backward()
    torch.testing.assert_close(torch.func.grad(loss)(images), leaf.grad)
    assert loss.populations[0].memory.count == 4
    (gradient,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
    with pytest.raises(RequestError, match="no second derivative"):
        gradient.sum().backward()


def test_the_distance_approaches_that_of_frechet_score(toy_options):
    """A queue holds the last images, so after the training it is a sample of all of them."""
    arrays = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    images = torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255
    reference = frechet.collect(list(np.random.default_rng(1).integers(0, 256, (9, 8, 8, 3), np.uint8)), **toy_options)
    loss = FDLoss(reference, extractors=ImageFeatures(**toy_options), population=12, refresh=1)
    for part in torch.cat([draw_images(4, 7), images]).split(4):
        loss(part)
    expected = frechet.fd(list(arrays), reference, **toy_options)
    assert float(loss.distances[0]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
@pytest.mark.subprocess
def test_two_processes_train_as_one(tmp_path, toy_options):
    weights, out = toy_options["weights"], tmp_path / "rank"
    torch.set_default_dtype(torch.float64)
    try:
        with run_ranks(tmp_path, Path(torch_fd_ranks.__file__), tmp_path / "store", out, weights):
            one = torch_fd_ranks.train(weights)
    finally:
        torch.set_default_dtype(torch.float32)
    for rank in range(2):
        two = torch.load(f"{out}{rank}", weights_only=True)
        for found, expected in zip(two, one, strict=True):
            assert (found - expected).norm() <= 1e-6 * expected.norm()


def make_scaled(factor):
    def scaled(images):
        return factor * images.mean((2, 3))

    scaled.input_size = 8
    return scaled


def make_scaled_loss(factor):
    return FDLoss(draw_images(8), extractors=make_scaled(factor), population=12)


def test_a_state_of_another_function_is_rejected_and_may_be_adopted(monkeypatch):
    state = make_scaled_loss(1.0).state_dict()
    make_scaled_loss(1.0).load_state_dict(state)
    monkeypatch.setattr(identity_parts, "_PARTS", {})  # as in another process
    loss = make_scaled_loss(5.0)
    with pytest.raises(MismatchError) as caught:
        loss.load_state_dict(state)
    assert "variable factor of make_scaled.<locals>.scaled is 1.0 and 5.0" in str(caught.value)
    (advice,) = re.findall(r"set (state\[.*) before load_state_dict\(state\)", str(caught.value))
    exec(advice, {"state": state})
    loss.load_state_dict(state)


def test_a_state_of_a_function_is_loaded_after_unrelated_names_changed(monkeypatch):
    state = make_scaled_loss(1.0).state_dict()
    monkeypatch.setitem(make_scaled.__globals__, "mean", torch.tensor(0.123))
    make_scaled_loss(1.0).load_state_dict(state)


def test_a_decomposition_that_does_not_converge_in_pytorch_is_computed_by_numpy(monkeypatch):
    """As MKL's for some covariances of low rank, in several threads. NaN remains an error of PyTorch."""
    matrix = torch.diag(torch.arange(5.0, dtype=torch.float64))
    expected = torch.linalg.eigh(matrix)

    def fail(_):
        raise torch.linalg.LinAlgError("the algorithm failed to converge")

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    values, vectors = eigendecompose(matrix)
    torch.testing.assert_close(values, expected.eigenvalues)
    torch.testing.assert_close(vectors.abs(), expected.eigenvectors.abs())
    with pytest.raises(torch.linalg.LinAlgError, match="converge"):
        eigendecompose(matrix * torch.nan)

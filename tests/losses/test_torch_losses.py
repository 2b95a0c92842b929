"""Losses in PyTorch: values against the scores, gradients against finite differences, and error messages."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_ranks
from forks import run_ranks
from golden_images import make_tiles

import frechet
from frechet.distances import transport
from frechet.distances.gaussian import Gaussian
from frechet.errors import MismatchError, NonFiniteFeaturesError, RequestError, TooFewImagesError
from frechet.features.registry import EXTRACTORS, OpsModel
from frechet.losses.torch import FDLoss, FIDLoss, ISLoss, KIDLoss, frechet_distance
from frechet.preprocessing.registry import PREPROCESSINGS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_inputs")]

OFFLINE = {"extractor": "efficientnet-lite0"}


def load_tiles(name="astronaut", count=12, size=32):
    """Return tiles of a photograph as a tensor (n, 3, size, size) in [0, 1] and as a list of uint8 arrays."""
    arrays = [np.asarray(image)[:size, :size] for image in make_tiles(f"skimage/data/{name}.png", count)]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 255, arrays


@pytest.fixture(scope="module")
def reference():
    return load_tiles("coffee", 16)


@pytest.fixture(scope="module")
def loss(reference):
    return FIDLoss(reference[0], **OFFLINE)


@pytest.fixture
def shallow(weights, reference):
    """Return the loss on the first layer of Inception, which is fast enough for float64."""
    return FIDLoss(reference[0].double(), weights=weights, dims=64)


# of the networks written over `Ops`: those of transformers crop, or round to 8 bits, before the network
EXACT = sorted(
    {name for row in EXTRACTORS.values() if isinstance(row.model, OpsModel) for name in row.preprocessings}
    - {"imagenet", "quantised-bicubic"}
)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(("height", "width"), [(32, 48), (299, 299), (400, 310), (150, 700)])
def test_resize_matrices_reproduce_the_resize_of_the_preprocessing(name, height, width):
    preprocessing = PREPROCESSINGS[name]
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    out = np.empty((299, 299, 3), np.float32)
    preprocessing.resize(image, out)
    rows, columns = preprocessing.resize_matrix(height, 299), preprocessing.resize_matrix(width, 299)
    found = np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns, optimize=True)
    found = found.clip(0, 255) if preprocessing.is_clipped else found
    assert np.abs(found - out).max() <= 1e-3  # of 255


def test_a_preprocessing_that_crops_and_rounds_has_no_gradient(weights, reference):
    with pytest.raises(RequestError, match=r"'quantised-bicubic'.* rounds .*Use pytorch-fid, tensorflow"):
        FIDLoss(reference[0], weights=weights, dims=64, preprocessing="quantised-bicubic")


def test_resize_matrices_are_close_to_a_resize_that_rounds_to_bytes():
    """Pillow rounds to 8 bits between its two passes, which changes a photograph by up to two grey levels."""
    preprocessing = PREPROCESSINGS["imagenet"]
    image = np.asarray(make_tiles("skimage/data/astronaut.png", 1)[0])
    out = np.empty((224, 224, 3), np.float32)
    preprocessing.resize(image, out)
    rows, columns = (preprocessing.resize_matrix(length, 224) for length in image.shape[:2])
    found = np.einsum("ih,hwc,jw->ijc", rows, image.astype(np.float64), columns, optimize=True).clip(0, 255)
    assert np.abs(found - out).max() <= 2
    assert np.abs(found - out).mean() <= 0.5


def test_fid_loss_equals_the_score(loss, reference):
    images, arrays = load_tiles()
    expected = frechet.score(arrays, reference[1], **OFFLINE)["fd"]
    assert float(loss(images)) == pytest.approx(float(expected), rel=1e-4)


def test_a_statistics_file_as_reference_gives_the_same_value(loss, reference, tmp_path):
    stored = frechet.collect(reference[1], **OFFLINE)
    stored.save(tmp_path / "reference.npz")
    images = load_tiles()[0]
    assert float(FIDLoss(tmp_path / "reference.npz", **OFFLINE)(images)) == pytest.approx(float(loss(images)), rel=1e-4)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(("n", "m"), [(4, 9), (4, 30), (30, 4), (30, 40)])
def test_gradients_with_respect_to_both_arguments_pass_gradcheck(n, m):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(n, 7, generator=random, dtype=torch.float64, requires_grad=True)
    y = (1.5 * torch.randn(m, 7, generator=random, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(frechet_distance, (x, y), atol=1e-6)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("n", [24, 25])
def test_gradient_with_as_many_images_as_dimensions_equals_finite_differences(n, stored):
    """Standard deviations from 1 to 3e-4: the smallest roots are below the resolution of eigenvalues of squares."""
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((k, 24)) * np.logspace(-3.5, 0, 24) for k in (n, 40))
    roots = (y - y.mean(axis=0)) / 39**0.5

    def by_singular_values(x):
        own = (x - x.mean(axis=0)) / (n - 1) ** 0.5
        mean_difference, mixed = x.mean(axis=0) - y.mean(axis=0), np.linalg.svd(own @ roots.T, compute_uv=False).sum()
        return mean_difference @ mean_difference + (own**2).sum() + (roots**2).sum() - 2 * mixed

    steps = 1e-7 * np.eye(x.size).reshape(-1, *x.shape)
    expected = (
        np.reshape([by_singular_values(x + step) - by_singular_values(x - step) for step in steps], x.shape) / 2e-7
    )
    features, other = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)
    value = frechet_distance(features, Gaussian.from_features(other).with_factor() if stored else other)
    value.backward()
    assert value.item() == pytest.approx(by_singular_values(x), rel=1e-10)
    assert np.linalg.norm(features.grad.numpy() - expected) <= 1e-5 * np.linalg.norm(expected)


def test_two_small_samples_need_one_decomposition(monkeypatch):
    """Without a covariance nothing is squared, so the roots are singular values already."""
    calls = []
    original = transport._coupling_from_singular_values
    monkeypatch.setattr(
        transport, "_coupling_from_singular_values", lambda *factors: calls.append(1) or original(*factors)
    )
    random = np.random.default_rng(0)
    x, y = (torch.from_numpy(random.standard_normal((n, 24)) * np.logspace(-6, 0, 24)) for n in (20, 22))
    frechet_distance(x.requires_grad_(), y).backward()
    assert len(calls) == 1


@pytest.mark.parametrize("stored", [True, False])
def test_float32_features_give_the_distance_of_float64(stored):
    """Standard deviations from 1 to 1e-4, whose squares are below float32 rounding of the largest."""
    random = torch.Generator().manual_seed(0)
    scale = torch.logspace(-4, 0, 32)
    x, y = (torch.randn(n, 32, generator=random) * scale for n in (200, 300))
    given = Gaussian.from_features(y.double()) if stored else y
    expected = [features.double().requires_grad_() for features in (x, y)]
    value = frechet_distance(*expected)
    value.backward()
    x.requires_grad_()
    found = frechet_distance(x, given)
    found.backward()
    assert found.dtype == x.grad.dtype == torch.float32
    assert found.item() == pytest.approx(value.item(), rel=1e-6)
    assert (x.grad - expected[0].grad).norm() < 1e-5 * expected[0].grad.norm()


def test_gradient_at_pixels_equals_finite_differences(shallow):
    """Noise has no ties in the max pools, and with a short step few ReLUs change sign."""
    random = torch.Generator().manual_seed(0)
    images = (0.2 + 0.6 * torch.rand(5, 3, 40, 40, generator=random, dtype=torch.float64)).requires_grad_()
    shallow(images).backward()
    direction = torch.randn(images.shape, generator=random, dtype=torch.float64)
    step = 1e-7
    with torch.no_grad():
        ends = [float(shallow(images + sign * step * direction)) for sign in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * step)
    assert float((images.grad * direction).sum()) == pytest.approx(expected, rel=1e-3)


def test_gradient_checkpointing_leaves_value_and_gradient_unchanged(reference, weights):
    found = []
    for gradient_checkpointing in (False, True):
        images = load_tiles()[0][:3].requires_grad_()
        value = FIDLoss(reference[0], weights=weights, dims=192, gradient_checkpointing=gradient_checkpointing)(images)
        value.backward()
        found.append((float(value.detach()), images.grad))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-12)


def test_microbatches_give_the_gradient_of_the_whole_batch(loss):
    latent = load_tiles()[0].clone().requires_grad_()
    whole = loss(latent * 0.9)
    whole.backward()
    expected = latent.grad.clone()
    latent.grad = None
    value = loss.backward_in_microbatches(lambda start, stop: latent[start:stop] * 0.9, len(latent), size=5)
    assert float(value) == pytest.approx(float(whole.detach()), rel=1e-6)
    assert (latent.grad - expected).norm() <= 1e-5 * expected.norm()


def test_microbatches_ignore_autocast_of_the_caller(loss):
    found = []
    for inside in (False, True):
        latent = load_tiles()[0].clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            loss.backward_in_microbatches(lambda start, stop, z=latent: z[start:stop], len(latent), size=5)
        found.append(latent.grad)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


def test_make_images_must_be_repeatable_and_return_the_requested_number(loss):
    leaf = torch.zeros(1, requires_grad=True)
    with pytest.raises(RequestError, match="different images the second time"):
        loss.backward_in_microbatches(lambda start, stop: torch.rand(stop - start, 3, 32, 32) + 0 * leaf, 4, size=2)
    with pytest.raises(RequestError, match="4 images; expected 2"):
        loss.backward_in_microbatches(lambda *_: load_tiles()[0][:4], 4, size=2)


def test_microbatches_of_images_without_a_gradient_are_rejected(loss):
    images = load_tiles()[0][:4]
    with pytest.raises(RequestError, match=r"make_images\(0, 2\) have no gradient; .*requires_grad=True"):
        loss.backward_in_microbatches(lambda start, stop: images[start:stop], 4, size=2)
    images.requires_grad_()
    with torch.no_grad(), pytest.raises(RequestError, match=r"gradients disabled; .*outside of torch.no_grad"):
        loss.backward_in_microbatches(lambda start, stop: images[start:stop], 4, size=2)


def test_bfloat16_changes_the_value_slightly_and_returns_float32(reference, weights):
    images = load_tiles()[0].requires_grad_()
    half, full = (FIDLoss(reference[0], weights=weights, dims=64, precision=name) for name in ("bfloat16", "float32"))
    value = half(images)
    assert value.dtype == torch.float32
    assert float(value.detach()) == pytest.approx(float(full(images).detach()), rel=0.05)
    assert float(value.detach()) != float(full(images).detach())
    value.backward()
    assert torch.isfinite(images.grad).all()


def test_float64_images_run_in_the_requested_half_precision(reference, weights):
    """Autocast does not convert float64, so the features would have another precision than the reference."""
    half = FIDLoss(reference[0], weights=weights, dims=64, precision="bfloat16")
    images = load_tiles()[0]
    features = half.features(images.double())
    assert features.dtype == torch.float64
    torch.testing.assert_close(features.float(), half.features(images), rtol=1e-2, atol=1e-3)
    assert float(half(images.double())) == pytest.approx(float(half(images)), rel=1e-3)


def test_half_on_the_module_leaves_the_loss_unchanged(reference, loss):
    images = load_tiles()[0]
    before = float(loss(images))
    assert float(loss.half()(images)) == before


def test_kid_equals_the_definition_of_the_unbiased_mmd(reference):
    images = load_tiles()[0][:6].requires_grad_()
    kid = KIDLoss(reference[0], **OFFLINE)
    value = kid(images)
    x, y = kid.features(images).detach().double().numpy(), kid.reference_rows.numpy()

    def k(a, b):
        return (a @ b / 1280 + 1) ** 3

    among = [np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    assert float(value.detach()) == pytest.approx(sum(among) - 2 * np.mean([k(a, b) for a in x for b in y]), rel=1e-4)
    value.backward()
    assert images.grad.abs().sum() > 0


def test_inception_score_equals_its_definition(weights_with_head):
    images = load_tiles()[0][:4].requires_grad_()
    with pytest.raises(RequestError, match=r"'inceptoin' \(did you mean inception\?\)"):
        ISLoss(extractor="inceptoin")
    assert ISLoss(**OFFLINE).dims == 1000
    inception = ISLoss(weights=weights_with_head)
    value = inception(images)
    p = torch.softmax(inception.features(images).detach().double(), 1).numpy()
    expected = np.exp(np.mean([(row * np.log(row / p.mean(0))).sum() for row in p]))
    assert -float(value.detach()) == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), r"images.float\(\) / 255"),
        (torch.zeros(4, 8, 8, 3), r"expected \(n, 3, h, w\): move the channels first"),
        (torch.zeros(3, 8, 8), r"For a single image pass images\[None\]"),
        (torch.zeros(4, 3, 0, 8), r"shape \(4, 3, 0, 8\); expected \(n, 3, h, w\)"),
        (torch.full((4, 3, 8, 8), -1.0), "range from -1 to -1; expected 0 to 1"),
        (torch.linspace(-1, 1, 768).reshape(4, 3, 8, 8), "range from -1 to 1; expected 0 to 1"),
        (torch.full((4, 3, 8, 8), 200.0), "range from 200 to 200"),
        (torch.zeros(4, 3, 8, 8, device="meta"), "on meta and the network is on cpu"),
    ],
)
def test_invalid_images_are_rejected(reference, images, message):
    loss = FIDLoss(reference[0], **OFFLINE)
    with pytest.raises(RequestError, match=message):
        loss(images)


def test_a_reference_on_another_device_is_rejected():
    with pytest.raises(RequestError, match=r"x is on cpu and y is on meta; move one of them"):
        frechet_distance(torch.zeros(4, 3), torch.zeros(4, 3, device="meta"))


def test_one_image_is_rejected(loss):
    with pytest.raises(TooFewImagesError, match="got 1"):
        loss(torch.zeros(1, 3, 8, 8))


def test_nan_in_an_image_is_reported_with_its_index(loss):
    images = load_tiles()[0].clone()
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises((NonFiniteFeaturesError, RequestError), match=r"image 3|NaN|nan"):
        loss(images)


def test_a_reference_of_other_features_is_rejected_before_weights_are_loaded(weights, tmp_path, reference):
    made = frechet.collect(reference[1], weights=weights, dims=64, preprocessing="tensorflow")
    with pytest.raises(MismatchError, match="preprocessing"):
        FIDLoss(made, weights=weights, preprocessing="clean")
    with pytest.raises(
        MismatchError, match=r"extractor inception, .* those of efficientnet-lite0; pass extractor='inception'"
    ):
        FIDLoss(made, **OFFLINE)
    nowhere = tmp_path / "nowhere.pth"  # the checks below do not need weights
    for loss in (FIDLoss, KIDLoss):
        with pytest.raises(MismatchError, match="preprocessing"):
            loss(made, weights=nowhere, preprocessing="clean")
        with pytest.raises(MismatchError, match=r"by layer 192, .* with layer 64\. Set dims=64"):
            loss(made, weights=nowhere, dims=192)
        with pytest.raises(RequestError, match="statistics file"):
            loss([1, 2, 3], weights=nowhere)
    bare = frechet.Statistics(mean=made.mean, covariance=made.covariance, n=16, spec=made.spec, label="here")
    with pytest.raises(RequestError, match=r"contains no features.*frechet stats"):
        KIDLoss(bare, weights=nowhere, dims=64, preprocessing="tensorflow")
    others = replace(made, spec=replace(made.spec, weights=64 * "0"))
    with pytest.raises(MismatchError, match="weights"):
        FIDLoss(others, weights=weights, dims=64, preprocessing="tensorflow")
    with pytest.raises(RequestError, match="statistics file"):
        FIDLoss([1, 2, 3], **OFFLINE)


def test_the_loss_has_no_parameters_and_no_state(loss):
    assert not loss.state_dict()
    assert not list(loss.parameters())


@pytest.fixture
def float64_by_default():
    """Compute in float64, in which rounding is far below the tolerance."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("counts", "shares_reference"), [([8, 4], False), ([7, 0], True)], ids=["uneven", "empty and split reference"]
)
def test_two_processes_give_the_loss_and_gradient_of_one(
    tmp_path, toy_options, float64_by_default, counts, shares_reference
):
    """DistributedDataParallel communicates in each pass, so ranks must make equally many; both ranks must agree."""
    weights, out = toy_options["weights"], tmp_path / "rank"
    arguments = [tmp_path / "store", out, weights, ",".join(map(str, counts)), shares_reference]
    with run_ranks(tmp_path, Path(torch_ranks.__file__), *arguments):
        one = torch_ranks.compute_loss_and_gradients(weights, counts)
    for rank in range(2):
        two = torch.load(f"{out}{rank}", weights_only=True)
        assert float(two["value"]) == pytest.approx(float(one["value"]), rel=1e-6)
        for kind in ("grads", "microbatch"):
            assert (two[kind] - one["grads"]).norm() <= 1e-6 * one["grads"].norm()


REJECTED_RANKS = """
import json, os, sys, torch
import torch.distributed as dist
rank, store, weights = int(sys.argv[1]), *sys.argv[2:]
from toy_extractor import TOY_EXTRACTOR
from frechet.errors import FrechetError
from frechet.features.registry import register_extractor
from frechet.losses.torch import FDLoss, FIDLoss
register_extractor("toy-name", TOY_EXTRACTOR)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
reference, images = torch.rand(6, 3, 32, 32), torch.rand(4, 3, 32, 32) * (255 if rank else 1)
options = {"weights": weights}
calls = [
    lambda: FIDLoss(reference, extractor="toy-name", **options)(images),
    lambda: FIDLoss(images, extractor="toy-name", **options),
    lambda: FDLoss(reference, extractors="toy-name", population=8, **options).observe(images),
    lambda: FIDLoss(reference, extractor="toy-name", **options).backward_in_microbatches(lambda i, j: images[i:j], 4, size=2),
]
messages = []
for call in calls:
    try:
        call()
    except FrechetError as error:
        messages.append(str(error))
print(json.dumps(messages))
sys.stdout.flush()
dist.barrier()
os._exit(0)
"""


def test_all_ranks_report_images_that_one_of_them_rejects(tmp_path, toy_options):
    with run_ranks(tmp_path, REJECTED_RANKS, tmp_path / "store", toy_options["weights"]):
        pass
    accepted, rejected = (json.loads((tmp_path / f"output-{rank}.txt").read_text()) for rank in range(2))
    assert all("rank 1 failed while it computed images or features" in message for message in accepted)
    assert all("images range from" in message for message in rejected)
    assert len(accepted) == len(rejected) == 4


FAILING_RANKS = """
import datetime, json, os, sys, torch
import torch.distributed as dist
rank, store, weights = int(sys.argv[1]), *sys.argv[2:]
from torch_ranks import make_generator
from toy_extractor import TOY_EXTRACTOR
from frechet.features.registry import register_extractor
from frechet.losses.torch import FIDLoss
register_extractor("toy-name", TOY_EXTRACTOR)
timeout = datetime.timedelta(seconds=60)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timeout)

def fail(*_):
    raise ValueError("no more noise")

def call(change, *, n=4, at=0, **options):
    # `change` replaces the images of the call with this index on rank 1, where there are two micro-batches in each pass
    model, calls = torch.nn.parallel.DistributedDataParallel(make_generator()), []
    def make_images(start, stop):
        images = model(torch.ones(stop - start, 5))
        calls.append(images)
        return change(images) if rank and len(calls) == at + 1 else images
    loss = FIDLoss(torch.rand(6, 3, 8, 8), extractor="toy-name", weights=weights)
    loss.backward_in_microbatches(make_images, n, size=2, **options)

calls = {
    "error in the first pass": lambda: call(fail, at=1),
    "number of images": lambda: call(lambda images: images[:1], at=0),
    "other images": lambda: call(lambda images: images * 0.5, at=2),
    "no gradient": lambda: call(lambda images: images.detach(), at=3),
    "error in the second pass": lambda: call(fail, at=2),
    "number in the second pass": lambda: call(lambda images: images[:1], at=3),
    "repeated": lambda: call(lambda images: images.detach(), n=0 if rank else 4, at=3),
    "argument": lambda: call(None, at=-1, n=-rank or 4),
    "scale": lambda: call(None, at=-1, scale=fail if rank else None),
}
messages = {}
for name, each in calls.items():
    try:
        each()
    except Exception as error:
        messages[name] = f"{type(error).__name__}: {error}"
print(json.dumps(messages))
sys.stdout.flush()
dist.barrier()
os._exit(0)
"""


@pytest.mark.subprocess
def test_no_rank_waits_for_one_that_has_failed_in_a_micro_batch(tmp_path, toy_options):
    """DistributedDataParallel communicates in each forward and each backward pass, where a rank alone would wait for its timeout."""
    with run_ranks(tmp_path, FAILING_RANKS, tmp_path / "store", toy_options["weights"]):
        pass
    waiting, failed = (json.loads((tmp_path / f"output-{rank}.txt").read_text()) for rank in range(2))
    message = "RunError: rank 1 failed while it computed images or features; see the error message of that rank"
    assert {name: each for name, each in waiting.items() if each != message} == {}
    assert failed == {
        "error in the first pass": "ValueError: no more noise",
        "number of images": "RequestError: make_images(0, 2) returned 1 images; expected 2",
        "other images": failed["other images"],
        "no gradient": failed["no gradient"],
        "error in the second pass": "ValueError: no more noise",
        "number in the second pass": "RequestError: make_images(2, 4) returned 1 images; expected 2",
        "repeated": failed["repeated"],
        "argument": "RequestError: n is -1; expected a whole number of images, at least 0",
        "scale": "ValueError: no more noise",
    }
    assert "make_images(0, 2) returned different images" in failed["other images"]
    assert "make_images(2, 4) have no gradient" in failed["no gradient"]
    assert "make_images(0, 0) have no gradient" in failed["repeated"]


def test_features_of_another_kind_are_rejected():
    rows = torch.rand(5, 3)
    for operands, message in (
        ((rows[0], rows), r"x is of shape \(3,\); expected a tensor of features \(n, d\)"),
        ((rows, rows.numpy()), "y is a ndarray; expected a tensor"),
        ((rows * torch.nan, rows), "x contains NaN or infinity in row 0"),
        ((rows[:2] * torch.nan, rows), "x contains NaN or infinity in row 0"),
        ((rows, torch.where(torch.arange(5)[:, None] == 2, torch.inf, rows)), "y contains NaN or infinity in row 2"),
    ):
        with pytest.raises((RequestError, NonFiniteFeaturesError), match=message):
            frechet_distance(*operands)


def test_a_module_in_float64_is_rejected_with_advice():
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4)).double()
    with pytest.raises(RequestError, match=r"parameters are torch.float64, .* pass module.float\(\)"):
        FIDLoss(torch.rand(6, 3, 32, 32), extractor=module, preprocessing="pytorch-fid")


def test_autocast_of_the_caller_leaves_the_value_unchanged(loss):
    images = load_tiles()[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = float(loss(images))
    assert inside == float(loss(images))


def test_a_second_derivative_raises_instead_of_being_zero():
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(frechet_distance(x.tanh(), torch.randn(5, 3).double()), x, create_graph=True)
    assert gradient.isfinite().all()  # a graph alone costs nothing
    with pytest.raises(RequestError, match="no second derivative"):
        gradient.square().sum().backward()


def test_a_folder_as_reference_is_rejected_with_the_command_that_makes_statistics(tmp_path):
    with pytest.raises(RequestError, match=r"is a folder; .* frechet stats"):
        FIDLoss(tmp_path, **OFFLINE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FDLoss("ref.npz", extractor="inception"), r"FDLoss\(\) .* 'extractor'; did you mean 'extractors'"),
        (lambda: FDLoss("ref.npz", extractr="inception"), r"FDLoss\(\) .* 'extractr'; did you mean 'extractors'"),
        (lambda: FIDLoss("ref.npz", extractr="inception"), r"FIDLoss\(\) .* 'extractr'; did you mean 'extractor'"),
        (lambda: KIDLoss("ref.npz", batchsize=3), r"KIDLoss\(\) .* 'batchsize'; did you mean 'batch_size'"),
        (lambda: ISLoss(value_rang=(0, 1)), r"ISLoss\(\) .* 'value_rang'; did you mean 'value_range'"),
    ],
)
def test_unknown_keywords_are_rejected_with_the_nearest(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_invalid_types_and_counts_are_rejected(loss):
    with pytest.raises(RequestError, match=r"images are ndarray; expected a tensor \(n, 3, h, w\)"):
        loss(load_tiles()[0].numpy())
    for wrong, message in (
        ({"size": 0}, "size is 0; .* at least 1"),
        ({"n": -1}, "n is -1; .* at least 0"),
        ({"n": 2.5}, "n is 2.5; expected a whole number"),
        ({"weight": float("nan")}, "weight is nan; expected a finite number"),
    ):
        with pytest.raises(RequestError, match=message):
            loss.backward_in_microbatches(lambda start, stop: load_tiles()[0][start:stop], **{"n": 12, **wrong})
    with pytest.raises(TooFewImagesError, match="got 0"):
        loss.backward_in_microbatches(lambda start, stop: load_tiles()[0][start:stop], 0)
    with pytest.raises(RequestError, match=r"batch_size is 0; .* at least 1"):
        FIDLoss(load_tiles()[0], batch_size=0, weights="nowhere.pth")


@pytest.mark.parametrize("wrong", [(1, -1), (0, 0), (0, float("nan")), (0, float("inf")), (0, 1, 2), 255, "01"])
def test_an_invalid_value_range_is_rejected(wrong):
    with pytest.raises(RequestError, match=r"value_range is .*; expected \(black, white\)"):
        FIDLoss(load_tiles()[0], value_range=wrong, weights="nowhere.pth")


def test_a_missing_reference_is_reported_before_weights_are_loaded(tmp_path):
    with pytest.raises(RequestError, match=r"nope\.npz"):
        FIDLoss(tmp_path / "nope.npz", weights=tmp_path / "nowhere.pth")
    with pytest.raises(RequestError, match=r"nope\.npz"):
        KIDLoss(tmp_path / "nope.npz", weights=tmp_path / "nowhere.pth")


def test_a_loss_created_in_inference_mode_has_gradients_outside_of_it(reference, loss):
    """The cached network of fastfid may be loaded in inference mode."""
    with torch.inference_mode():
        made = FIDLoss(reference[0], **OFFLINE)
    images = load_tiles()[0].requires_grad_()
    value = made(images)
    value.backward()
    assert float(value.detach()) == float(loss(images.detach()))
    assert images.grad.abs().sum() > 0

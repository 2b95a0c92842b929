"""Losses in PyTorch inside training code: other terms, mixed precision, drifting images, own extractors, torch.func."""

import warnings

import numpy as np
import pytest
import torch

import frechet
from frechet.errors import RequestError
from frechet.losses import torch_features, torch_gather
from frechet.losses.torch import FDLoss, FIDLoss, ISLoss, KIDLoss, frechet_distance
from frechet.losses.torch_features import ImageFeatures


@pytest.fixture
def loss(toy_options):
    return FIDLoss(draw_images(9, seed=1), **toy_options)


def draw_images(n, seed=0, size=8):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


class Network(torch.nn.Module):
    """A user's network: its features depend on the mode of BatchNorm and Dropout."""

    input_size = 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.Softplus(), torch.nn.Dropout(0.5)
        )

    def forward(self, x):
        return self.body(x).mean((2, 3))


# Several terms and mixed precision


def collect_step(loss, **options):
    """Return the change of a parameter by one step of SGD."""
    gain = torch.ones(3, 1, 1, requires_grad=True)
    optimizer = torch.optim.SGD([gain], lr=1)
    images = 0.8 * draw_images(6)
    value = loss.backward_in_microbatches(lambda start, stop: images[start:stop] * gain, 6, size=4, **options)
    scaler = options.get("scale")
    if scaler is None:
        optimizer.step()
    else:
        scaler.__self__.step(optimizer)
    return value, gain.detach() - 1


def test_a_grad_scaler_leaves_the_update_unchanged(loss):
    value, expected = collect_step(loss)
    scaled_value, found = collect_step(loss, scale=torch.amp.GradScaler("cpu").scale)
    assert expected.norm() > 1e-3
    assert scaled_value == value
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_a_weight_multiplies_the_gradient(loss):
    _, expected = collect_step(loss)
    _, found = collect_step(loss, weight=0.25)
    torch.testing.assert_close(found, 0.25 * expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("track_running_stats", [True, False])
def test_batch_norm_on_the_statistics_of_a_microbatch_is_rejected(loss, track_running_stats):
    norm = torch.nn.BatchNorm2d(3, track_running_stats=track_running_stats)
    images = draw_images(6)

    def make_images(start, stop):
        return norm(images[start:stop]).sigmoid()

    with pytest.raises(RequestError, match=r"BatchNorm2d in training mode.*layer.eval\(\)"):
        loss.backward_in_microbatches(make_images, 6, size=3)
    norm.eval()
    if track_running_stats:
        loss.backward_in_microbatches(make_images, 6, size=3)
        assert norm.weight.grad.norm() > 0


# Images that leave the range


def test_images_that_training_moves_out_of_the_range_are_reported_once_and_keep_their_gradient(loss):
    drifted = draw_images(6) * 1.4 - 0.2
    loss(draw_images(6))
    with pytest.warns(UserWarning, match=r"range from -0.\d+ to 1.\d+; expected 0 to 1"):
        loss(drifted)
    images = drifted.double().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(images).backward()
    direction = torch.zeros_like(images)
    direction[images < 0] = 1.0
    with torch.no_grad():
        ends = [float(loss(images + step * direction)) for step in (1e-5, -1e-5)]
    assert float((images.grad * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("wrong", [lambda x: 2 * x - 1, lambda x: 255 * x], ids=["-1 to 1", "0 to 255"])
def test_another_scale_is_an_error_in_the_first_batch_only(loss, wrong):
    with pytest.raises(RequestError, match=r"expected 0 to 1.*value_range"):
        loss(wrong(draw_images(6)))
    loss(draw_images(6))
    with pytest.warns(UserWarning, match="expected 0 to 1"):
        loss(wrong(draw_images(6)))


def test_images_of_a_data_set_must_be_in_range(loss, toy_options):
    with pytest.raises(RequestError, match="expected 0 to 1"):
        loss.features(draw_images(4) * 1.2)
    with pytest.raises(RequestError, match="expected 0 to 1"):
        FIDLoss(draw_images(4) * 1.2, **toy_options)


def test_clipping_of_the_resize_spares_values_that_were_out_of_range_before(toy_options):
    """In range, it removes what bicubic interpolation adds."""
    network = ImageFeatures(**toy_options, preprocessing="clean")
    images = (draw_images(2) * 1.4 - 0.2).double().requires_grad_()
    with pytest.warns(UserWarning, match="expected 0 to 1"):
        network.training_features(images).sum().backward()
    assert (images.grad.abs() > 0).all()
    edges = torch.zeros(1, 3, 16, 16)
    edges[..., 8:] = 1
    resized = network._resize(255 * edges)
    assert (float(resized.min()), float(resized.max())) == (0, 255)


# Own extractors


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_of_a_users_module_equals_its_score(training):
    module, arrays = Network().train(training), np.random.default_rng(0).integers(0, 256, (2, 9, 8, 8, 3), np.uint8)
    images, reference = (torch.from_numpy(each).permute(0, 3, 1, 2) / 255 for each in arrays)
    expected = frechet.fd(list(arrays[0]), list(arrays[1]), extractor=module.eval())
    module.train(training)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    loss = FIDLoss(reference, extractor=module)
    images.requires_grad_()
    value = loss(images)
    value.backward()
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-4)
    assert images.grad.norm() > 0
    assert module.training is training
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert not list(loss.parameters())
    assert not loss.state_dict()
    stored = frechet.collect(list(arrays[1]), extractor=module)
    assert float(FIDLoss(stored, extractor=module)(images.detach())) == pytest.approx(float(expected), rel=1e-4)


def test_every_loss_accepts_modules_functions_and_names_of_functions():
    images = draw_images(4).double().requires_grad_()
    for loss in (
        KIDLoss(draw_images(5), extractor=Network()),
        ISLoss(extractor=Network()),
        FIDLoss(draw_images(5), extractor="toy_network:corner"),
        FIDLoss(draw_images(5), extractor=Network(), gradient_checkpointing=True),
    ):
        images.grad = None
        loss(images).backward()
        assert images.grad.norm() > 0
    assert loss.spec.preprocessing == "imagenet"


def test_unusable_extractors_are_rejected():
    class Detached(Network):
        def forward(self, x):
            return super().forward(x).detach()

    images = draw_images(4).requires_grad_()
    with pytest.raises(RequestError, match=r"without a gradient; .*Remove"):
        FIDLoss(draw_images(5), extractor=Detached())(images)
    with pytest.raises(RequestError, match="has no gradient; pass a torch"):
        FIDLoss(draw_images(5), extractor="onnx:network.onnx")
    with pytest.raises(RequestError, match=r"'clip', which crops .* Use .*imagenet"):
        FIDLoss(draw_images(5), extractor=Network(), preprocessing="clip")
    with pytest.raises(RequestError, match=r"\(dims=\) is 7"):
        FIDLoss(draw_images(5), extractor=Network(), dims=7)


# torch.func


def test_torch_func_grad_equals_backward(loss):
    images = draw_images(5).double()
    leaf = images.clone().requires_grad_()
    loss(leaf).backward()
    torch.testing.assert_close(torch.func.grad(loss)(images), leaf.grad)
    x, y = torch.randn(2, 6, 3, dtype=torch.float64)
    leaves = [each.clone().requires_grad_() for each in (x, y)]
    frechet_distance(*leaves).backward()
    found = torch.func.grad(frechet_distance, argnums=(0, 1))(x, y)
    torch.testing.assert_close(found, tuple(leaf.grad for leaf in leaves))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's own, in forward mode
def test_other_transformations_are_rejected_with_advice(loss):
    x, y = torch.randn(2, 6, 3, dtype=torch.float64)

    def distance(x):
        return frechet_distance(x, y)

    for transformed in (
        lambda: torch.func.hessian(distance)(x),
        lambda: torch.func.jvp(distance, (x,), (x,)),
        lambda: torch.func.grad(lambda x: torch.func.grad(distance)(x).square().sum())(x),
    ):
        with pytest.raises(RequestError, match=r"no forward-mode|no second derivative"):
            transformed()
    with pytest.raises(RequestError, match=r"vmap; .*once per batch"):
        torch.func.vmap(distance)(torch.stack([x, x]))
    with pytest.raises(RequestError, match=r"vmap; .*once per batch"):
        torch.func.vmap(loss)(torch.stack([draw_images(4), draw_images(4)]))


# Settings of PyTorch


@pytest.fixture
def tf32():
    """Allow TF32, as a training script may."""
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [each.allow_tf32 for each in flags]
    for each in flags:
        each.allow_tf32 = True
    yield lambda: [each.allow_tf32 for each in flags]
    for each, allowed in zip(flags, before, strict=True):
        each.allow_tf32 = allowed


def test_images_are_resized_without_tf32(loss, tf32, monkeypatch):
    seen, resize = [], torch_features._apply_banded_matrix
    monkeypatch.setattr(torch_features, "_apply_banded_matrix", lambda *args: seen.append(tf32()) or resize(*args))
    loss(draw_images(4, size=12))
    assert seen == [[False, False]] * 2
    assert tf32() == [True, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.uint8])
@pytest.mark.parametrize("changed", [False, True])
def test_reference_images_of_any_dtype_count_once_if_all_ranks_have_them(monkeypatch, dtype, changed):
    """Of two ranks with equal rows, the second has images that differ in one value or not at all."""
    own, rows, sent = (100 * draw_images(4)).to(dtype), torch.rand(4, 2), []
    other = own.clone(memory_format=torch.channels_last)
    other[-1, -1, -1, -1] += 10 * changed
    monkeypatch.setattr(torch_gather, "gather_counts", lambda count, _device: [count, count])
    monkeypatch.setattr(torch_gather, "gather_rows", lambda rows: sent.append(rows) or torch.cat([rows, rows]))
    torch_gather.gather_distinct_rows(rows, other)  # what the second rank sends
    from_other = sent.copy()
    monkeypatch.setattr(torch_gather, "gather_rows", lambda rows: torch.cat([rows, from_other.pop(0)]))
    assert len(torch_gather.gather_distinct_rows(rows, own)) == (8 if changed else 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda images, network: FIDLoss(images, extractor=network),
        lambda images, network: KIDLoss(images, extractor=network),
        lambda images, network: FDLoss(images, extractors=network, population=8),
    ],
    ids=["FID", "KID", "FD"],
)
@pytest.mark.parametrize("on", [True, False])
def test_losses_created_in_inference_mode_have_the_gradient_of_others(make, on):
    with torch.inference_mode(on):
        loss = make(draw_images(9, seed=1), Network())
    expected = make(draw_images(9, seed=1), Network())
    leaves = [draw_images(4).requires_grad_() for _ in range(2)]
    for each, leaf in zip((loss, expected), leaves, strict=True):
        for _ in range(3):
            each(leaf).backward()
    assert torch.equal(leaves[0].grad, leaves[1].grad)

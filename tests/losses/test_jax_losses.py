"""Losses in JAX: values against the scores, gradients against finite differences and PyTorch, and error messages."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_images import make_tiles
from jax_toy import MIX, TOY, noise, toy_features, x64

import frechet
import frechet.jax as fj
from frechet.distances.gaussian import Gaussian
from frechet.errors import MismatchError, NonFiniteFeaturesError, RequestError, TooFewImagesError
from frechet.losses.jax import (
    Reference,
    _is_from_logits,
    _kid_from_features,
    fid_loss,
    frechet_distance,
    is_loss,
    kid_loss,
    make_reference,
    value_and_grad_in_microbatches,
)
from frechet.preprocessing.registry import PREPROCESSINGS
from frechet.statistics.feature_statistics import FeatureStatistics

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_inputs")]


def load_tiles(name="astronaut", count=12, size=32):
    """Return tiles of a photograph as float32 (n, size, size, 3) in [0, 1] and as uint8."""
    arrays = np.stack([image[:size, :size] for image in make_tiles(f"skimage/data/{name}.png", count)])
    return jnp.asarray(arrays, jnp.float32) / 255, arrays


@pytest.fixture(scope="module")
def stored(weights):
    return frechet.collect(load_tiles("coffee", 16)[1], dims=64, weights=weights)


@pytest.fixture(scope="module")
def reference(stored, weights):
    return make_reference(stored, dims=64, weights=weights)


@pytest.mark.parametrize("on", [False, True], ids=["x32", "x64"])
def test_fid_loss_equals_the_score(stored, weights, on):
    images, arrays = load_tiles()
    expected = frechet.score(arrays, stored, dims=64, weights=weights)["fid"]
    with x64(on):
        found = jax.jit(fid_loss)(images, make_reference(stored, dims=64, weights=weights))
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_a_reference_may_be_images_or_a_file(stored, reference, weights, tmp_path):
    stored.save(tmp_path / "reference.npz")
    images, compiled = load_tiles()[0], jax.jit(fid_loss)
    for source in (tmp_path / "reference.npz", load_tiles("coffee", 16)[0], load_tiles("coffee", 16)[1]):
        other = make_reference(source, dims=64, weights=weights, batch_size=7)
        assert float(compiled(images, other)) == pytest.approx(float(compiled(images, reference)), rel=1e-4)


def frechet_distance_by_svd(x, y):
    """Compute the squared Fréchet distance in NumPy without squaring, accurate enough for finite differences."""
    roots = [(z - z.mean(axis=0)) / (len(z) - 1) ** 0.5 for z in (x, y)]
    mixed = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    mean_difference = x.mean(axis=0) - y.mean(axis=0)
    return mean_difference @ mean_difference + (roots[0] ** 2).sum() + (roots[1] ** 2).sum() - 2 * mixed


def central_differences(f, x, step=1e-7):
    """Return the central differences of f at x, entry by entry."""
    found = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        offset = np.zeros(x.shape)
        offset[index] = step
        found[index] = (float(f(x + offset)) - float(f(x - offset))) / (2 * step)
    return found


def assert_gradient_equals_differences(f, x, exact=None):
    gradient, expected = np.asarray(jax.jit(jax.grad(f))(x)), central_differences(exact or jax.jit(f), x)
    assert np.abs(gradient - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize(("n", "m"), [(4, 9), (4, 30), (30, 4), (30, 40)])
def test_gradients_with_respect_to_both_arguments_equal_finite_differences(n, m):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n, 7)), 1.5 * random.standard_normal((m, 7))
    with x64(True):
        assert_gradient_equals_differences(lambda x: frechet_distance(x, y), x, lambda x: frechet_distance_by_svd(x, y))
        assert_gradient_equals_differences(lambda y: frechet_distance(x, y), y, lambda y: frechet_distance_by_svd(x, y))


@pytest.mark.parametrize("n", [24, 25])
def test_gradient_with_as_many_images_as_dimensions_equals_finite_differences(n):
    """Standard deviations from 1 to 3e-4: the smallest roots are below the resolution of eigenvalues of squares."""
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((k, 24)) * np.logspace(-3.5, 0, 24) for k in (n, 40))
    expected = central_differences(lambda x: frechet_distance_by_svd(x, y), x)
    with x64(True):
        stored = jax.tree.map(jnp.asarray, Gaussian.from_features(y).with_factor())
        for other in (y, stored):
            value, gradient = jax.jit(jax.value_and_grad(frechet_distance))(x, other)
            assert float(value) == pytest.approx(frechet_distance_by_svd(x, y), rel=1e-10)
            assert np.linalg.norm(gradient - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_features_of_any_dtype_give_the_distance_of_float64(dtype, on):
    """The other argument may have another dtype, or be a Gaussian with covariance and factor."""
    random = np.random.default_rng(0)
    scale = np.logspace(-3, 0, 12)
    x, w, y = (random.standard_normal(shape) for shape in ((20, 12), (12, 12), (40, 12)))
    gaussian = Gaussian.from_features(y * scale).with_factor()
    with x64(on):
        x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)

        def features(w):
            return jnp.tanh(x @ w) * scale.astype(dtype)

        expected = frechet_distance_by_svd(np.asarray(features(w), np.float64), y * scale)
        value_and_grad = jax.value_and_grad(lambda w, other: frechet_distance(features(w), other))
        for other in (y * scale, jax.tree.map(jnp.asarray, gaussian)):
            value, gradient = value_and_grad(w, other)
            assert value.dtype == gradient.dtype == dtype
            assert float(value) == pytest.approx(expected, rel=max(1e-5, float(jnp.finfo(dtype).eps)))
            assert jnp.isfinite(gradient).all()
        assert jax.grad(lambda w: frechet_distance(y * scale, features(w)))(w).dtype == dtype


@pytest.mark.parametrize("case", ["doubled", "rank-deficient", "constant feature"])
@pytest.mark.parametrize("n", [5, 30])
def test_gradient_at_singular_covariances_equals_finite_differences(case, n):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n, 7)), 1.5 * random.standard_normal((40, 7))
    if case == "doubled":
        x[1] = x[0]
    elif case == "constant feature":
        y[:, 3] = 0.2
    else:
        y[:, 5:] = y[:, :2]
    with x64(True):
        assert_gradient_equals_differences(lambda x: frechet_distance(x, y), x, lambda x: frechet_distance_by_svd(x, y))


@pytest.mark.parametrize(("n", "m"), [(4, 30), (9, 12)])
def test_second_derivatives_equal_finite_differences_of_the_gradient(n, m):
    random = np.random.default_rng(0)
    x, direction, y = random.standard_normal((n, 5)), random.standard_normal((n, 5)), random.standard_normal((m, 5))
    with x64(True):
        along = jax.jit(lambda x: jnp.sum(jax.grad(frechet_distance)(x, y) * direction))
        assert_gradient_equals_differences(along, x)


def test_gradients_of_kid_and_inception_score_equal_finite_differences():
    random = np.random.default_rng(0)
    x, rows = random.standard_normal((5, 7)), random.standard_normal((9, 7))
    with x64(True):
        assert_gradient_equals_differences(lambda x: _kid_from_features(x, Reference(None, None, rows)), x)
        assert_gradient_equals_differences(lambda x: _is_from_logits(x, None), x)


@pytest.mark.parametrize(("n", "m", "rel", "relative_gradient"), [(8, 200, 1e-5, 1e-5), (200, 300, 1e-3, 2e-2)])
def test_float32_distance_is_close_to_float64(n, m, rel, relative_gradient):
    """Variances from 1 to 1e-10 and a repeated image: squares would be below the rounding of float32."""
    random = np.random.default_rng(0)
    scale = 2.0 ** -(np.arange(64) / 4)
    x, y = (grow * np.abs(random.standard_normal((k, 64))) * scale for grow, k in ((1, n), (1.3, m)))
    x[1] = x[0]
    value_and_grad = jax.jit(jax.value_and_grad(frechet_distance))
    with x64(True):
        exact, expected = (np.asarray(part) for part in value_and_grad(x, y))
    single, gradient = value_and_grad(x.astype(np.float32), y.astype(np.float32))
    assert float(single) == pytest.approx(float(exact), rel=rel)
    assert np.linalg.norm(np.asarray(gradient) - expected) <= relative_gradient * np.linalg.norm(expected)


def test_value_and_gradient_agree_with_torch(stored, weights):
    """In float64 rounding changes the sign of no ReLU and the order of no pixels in a max pool."""
    torch = pytest.importorskip("torch")
    from frechet.losses.torch import FIDLoss

    images = 0.2 + 0.6 * np.random.default_rng(0).random((4, 40, 48, 3))
    leaf = torch.from_numpy(images.transpose(0, 3, 1, 2)).requires_grad_()
    value = FIDLoss(stored, dims=64, weights=weights)(leaf)
    value.backward()
    expected = leaf.grad.numpy().transpose(0, 2, 3, 1)
    with x64(True):
        loss, gradient = jax.jit(jax.value_and_grad(fid_loss))(images, make_reference(stored, dims=64, weights=weights))
    assert float(loss) == pytest.approx(float(value.detach()), rel=1e-9)
    assert np.linalg.norm(np.asarray(gradient) - expected) <= 1e-9 * np.linalg.norm(expected)


def test_gradient_checkpointing_leaves_value_and_gradient_unchanged(stored, weights):
    images = load_tiles()[0][:3]
    found = []
    for gradient_checkpointing in (False, True):
        reference = make_reference(stored, dims=64, weights=weights, gradient_checkpointing=gradient_checkpointing)
        program = jax.jit(jax.value_and_grad(fid_loss)).lower(images, reference)
        found.append((program.compile()(images, reference), program.as_text().count("optimization_barrier")))
    (plain, none), (again, barriers) = found
    assert barriers > none == 0  # JAX separates recomputed segments by barriers
    assert float(plain[0]) == pytest.approx(float(again[0]), rel=1e-6)
    np.testing.assert_allclose(plain[1], again[1], rtol=1e-4, atol=1e-5 * np.abs(plain[1]).max())


@pytest.mark.parametrize("loss", [fid_loss, kid_loss, is_loss])
@pytest.mark.parametrize("n", [3, 13])
def test_microbatches_give_the_gradient_of_the_whole_batch(loss, n):
    """The images are rows of the parameters, selected by the latents; 13 is not a multiple of 5."""
    random = np.random.default_rng(0)
    params = {"images": random.uniform(0.1, 0.9, (n, 12, 8, 3))}
    latents = random.permutation(n)
    rows = toy_features(noise(20))

    def make(params, latents):
        return params["images"][latents] ** 1.1

    with x64(True):
        gaussian = Gaussian.from_features(jnp.asarray(rows)).with_factor()
        feature_fn = jax.tree_util.Partial(TOY, MIX)
        reference = feature_fn if loss is is_loss else Reference(feature_fn, gaussian, jnp.asarray(rows))
        whole = jax.jit(jax.value_and_grad(lambda params: loss(make(params, latents), reference)))(params)
        found = jax.jit(value_and_grad_in_microbatches(loss, make, size=5))(params, latents, reference)
    assert float(found[0]) == pytest.approx(float(whole[0]), rel=1e-9)
    error = np.linalg.norm(np.asarray(found[1]["images"]) - np.asarray(whole[1]["images"]))
    assert error <= 1e-9 * np.linalg.norm(whole[1]["images"])


def test_kid_equals_the_definition_of_the_unbiased_mmd(reference, stored):
    images = load_tiles(count=6)[0]
    x = np.asarray(reference.feature_fn(images), np.float64)
    y = stored.rows.astype(np.float64)

    def k(a, b):
        return (a @ b / 64 + 1) ** 3

    among = [np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    expected = sum(among) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert float(kid_loss(images, reference)) == pytest.approx(expected, rel=1e-3)


def test_inception_score_equals_its_definition(weights_with_head):
    feature_fn = jax.tree_util.Partial(*fj.network(dims=1008, weights=weights_with_head))
    images = load_tiles()[0][:4]
    value, logits = jax.jit(lambda images, feature_fn: (is_loss(images, feature_fn), feature_fn(images)))(
        images, feature_fn
    )
    p = np.exp(np.asarray(logits, np.float64))
    p /= p.sum(axis=1, keepdims=True)
    expected = np.exp(np.mean([(row * np.log(row / p.mean(0))).sum() for row in p]))
    assert -float(value) == pytest.approx(expected, rel=1e-5)


def test_inception_score_of_certain_predictions_is_the_number_of_classes():
    """The probabilities are 0 or 1 in float32, with three equally frequent classes."""
    logits = 1000 * jnp.eye(6, 6)[:, [0, 1, 2]]
    assert float(_is_from_logits(logits[:3], None)) == pytest.approx(-3, rel=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[0.5]], r"images has type list; expected an array \(n, h, w, 3\)"),
        (np.zeros((4, 8, 8, 3), np.uint8), r"images.astype\(jnp.float32\) / 255"),
        (np.zeros((4, 3, 8, 8), np.float32), r"expected \(n, h, w, 3\)"),
        (np.zeros((4, 0, 8, 3), np.float32), r"shape \(4, 0, 8, 3\); expected \(n, h, w, 3\)"),
        (np.full((4, 8, 8, 3), -1, np.float32), "range from -1 to -1; expected 0 to 1"),
        (np.linspace(0, 255, 768, dtype=np.float32).reshape(4, 8, 8, 3), "range from 0 to 255; expected 0 to 1"),
    ],
)
def test_invalid_images_are_rejected(reference, images, message):
    with pytest.raises(RequestError, match=message):
        fid_loss(images, reference)


def test_nonfinite_images_raise_outside_of_jit_and_give_nan_inside(reference):
    images = load_tiles()[0]
    with pytest.raises(NonFiniteFeaturesError, match="image 3"):
        fid_loss(images.at[3, 0, 0, 0].set(jnp.nan), reference)
    compiled = jax.jit(fid_loss)
    assert np.isfinite(compiled(images, reference))
    assert np.isnan(compiled(images.at[3, 0, 0, 0].set(jnp.nan), reference))
    assert np.isnan(compiled(255 * images, reference))
    assert np.isnan(compiled(2 * images - 1, reference))


def test_images_in_another_symmetric_scale_raise_outside_of_jit(reference):
    with pytest.raises(RequestError, match=r"range from -1 to 0\.\d+; expected 0 to 1"):
        fid_loss(2 * load_tiles()[0] - 1, reference)


@pytest.mark.parametrize(("low", "high"), [(-0.3, 1.3), (-0.6, 0.9)], ids=["both sides", "dark"])
@pytest.mark.parametrize("preprocessing", ["pytorch-fid", "clean"])
def test_images_that_training_moves_out_of_the_range_keep_their_gradient(preprocessing, low, high):
    """The resize of clean-fid is clipped, which must not hide such values."""
    network = replace(TOY, preprocessing=PREPROCESSINGS[preprocessing])
    with x64(True):
        gaussian = Gaussian.from_features(jnp.asarray(toy_features(noise(20)))).with_factor()
        reference = Reference(jax.tree_util.Partial(network, MIX), gaussian, None)
        images = np.random.default_rng(0).uniform(low, high, (3, 4, 4, 3))
        assert_gradient_equals_differences(lambda images: fid_loss(images, reference), images)


def test_fewer_than_two_images_are_rejected(reference):
    for few in (0, 1):
        with pytest.raises(TooFewImagesError, match=f"got {few}"):
            fid_loss(load_tiles()[0][:few], reference)


def test_a_reference_of_other_features_is_rejected_before_weights_are_loaded(weights, stored):
    with pytest.raises(MismatchError, match="preprocessing"):
        make_reference(stored, dims=64, weights=weights, preprocessing="tensorflow")
    nowhere = "nowhere.pth"  # the checks below do not need weights
    with pytest.raises(MismatchError, match="preprocessing"):
        make_reference(stored, dims=64, weights=nowhere, preprocessing="tensorflow")
    with pytest.raises(MismatchError, match=r"by layer 192, .* with layer 64\. Set dims=64"):
        make_reference(stored, dims=192, weights=nowhere)
    with pytest.raises(RequestError, match="statistics file"):
        make_reference([1, 2, 3], dims=64, weights=nowhere)
    others = replace(stored, spec=replace(stored.spec, weights=64 * "0"))
    with pytest.raises(MismatchError, match="weights"):
        make_reference(others, dims=64, weights=weights)
    with pytest.raises(RequestError, match=r"reference is a str; .*make_reference"):
        fid_loss(load_tiles()[0], "reference.npz")
    bare = FeatureStatistics(mean=stored.mean, covariance=stored.covariance, n=16, spec=stored.spec, label="here")
    with pytest.raises(RequestError, match=r"contains no features.*frechet stats"):
        kid_loss(load_tiles()[0], make_reference(bare, dims=64, weights=weights))


def test_features_of_another_shape_are_rejected():
    for operands, message in (
        ((jnp.ones(5), jnp.ones((5, 3))), r"x is of shape \(5,\); expected an array of features \(n, d\)"),
        ((jnp.ones((5, 3)), [1.0]), "y is a list; expected an array"),
    ):
        with pytest.raises(RequestError, match=message):
            frechet_distance(*operands)


def test_unknown_keywords_are_rejected_with_the_nearest():
    with pytest.raises(TypeError, match=r"make_reference\(\) .* 'extractr'; did you mean 'extractor'"):
        make_reference("reference.npz", extractr="inception")


def test_invalid_arguments_of_microbatches_are_rejected(reference):
    with pytest.raises(RequestError, match="fid_loss, fd_loss, kid_loss or is_loss"):
        value_and_grad_in_microbatches(np.sum, None)
    with pytest.raises(RequestError, match=r"size is 0; .* at least 1"):
        value_and_grad_in_microbatches(fid_loss, None, size=0)
    with pytest.raises(RequestError, match=r"batch_size is 0; .* at least 1"):
        make_reference(load_tiles()[1], batch_size=0, weights="nowhere.pth")
    step, z = value_and_grad_in_microbatches(fid_loss, lambda params, latents: latents["z"] * params), load_tiles()[0]
    for latents, message in (
        ({"z": z, "labels": np.zeros(5)}, "have 5 and 12 rows"),
        ({"z": z, "scale": 1.0}, "have no and 12 rows"),
        ({}, "have no rows"),
    ):
        with pytest.raises(RequestError, match=message):
            step(1.0, latents, reference)
    with pytest.raises(TooFewImagesError, match="got 0"):
        step(1.0, {"z": z[:0]}, reference)
    wrong = value_and_grad_in_microbatches(fid_loss, lambda params, latents: latents[:1], size=2)
    with pytest.raises(RequestError, match="1 images for 2 rows"):
        wrong(0.0, load_tiles()[0], reference)


def test_an_invalid_value_range_is_reported_before_weights_are_loaded(tmp_path):
    for load in (fj.network, lambda **options: make_reference(load_tiles()[1], **options)):
        with pytest.raises(RequestError, match=r"value_range is \(1, -1\); expected \(black, white\)"):
            load(value_range=(1, -1), weights=tmp_path / "nowhere.pth")


def test_a_value_range_may_be_a_list(reference, stored, weights):
    """Configuration files have lists, but a network must stay hashable."""
    signed = make_reference(stored, dims=64, weights=weights, value_range=[-1, 1])
    images = load_tiles()[0]
    assert float(fid_loss(2 * images - 1, signed)) == pytest.approx(float(fid_loss(images, reference)), rel=1e-4)

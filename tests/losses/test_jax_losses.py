"""Losses in JAX: their values are the scores', their gradients those of differences and of PyTorch, their errors clear."""

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
from frechet.statistics.feature_statistics import FeatureStatistics

pytestmark = pytest.mark.slow


def real(name="astronaut", count=12, size=32):
    """(n, size, size, 3) in [0, 1]: real patches, and the uint8 arrays that they are."""
    arrays = np.stack([image[:size, :size] for image in make_tiles(f"skimage/data/{name}.png", count)])
    return jnp.asarray(arrays, jnp.float32) / 255, arrays


@pytest.fixture(scope="module")
def stored(weights):
    return frechet.collect(real("coffee", 16)[1], dims=64, weights=weights)


@pytest.fixture(scope="module")
def reference(stored, weights):
    return make_reference(stored, dims=64, weights=weights)


@pytest.mark.parametrize("on", [False, True], ids=["x32", "x64"])
def test_the_value_is_the_scores(stored, weights, on):
    images, arrays = real()
    expected = frechet.score(arrays, stored, dims=64, weights=weights)["fid"]
    with x64(on):
        found = jax.jit(fid_loss)(images, make_reference(stored, dims=64, weights=weights))
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_a_reference_may_be_images_or_a_file(stored, reference, weights, tmp_path):
    stored.save(tmp_path / "reference.npz")
    images = real()[0]
    for source in (tmp_path / "reference.npz", real("coffee", 16)[0], real("coffee", 16)[1]):
        other = make_reference(source, dims=64, weights=weights, batch_size=7)
        assert float(fid_loss(images, other)) == pytest.approx(float(fid_loss(images, reference)), rel=1e-4)


def by_singular_values(x, y):
    """The squared Fréchet distance of features in NumPy, without squaring: exact enough for differences where it has a kink."""
    roots = [(z - z.mean(axis=0)) / (len(z) - 1) ** 0.5 for z in (x, y)]
    mixed = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    gap = x.mean(axis=0) - y.mean(axis=0)
    return gap @ gap + (roots[0] ** 2).sum() + (roots[1] ** 2).sum() - 2 * mixed


def differences(f, x, step=1e-7):
    """Central differences of f at x, entry by entry."""
    found = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        moved = np.zeros(x.shape)
        moved[at] = step
        found[at] = (float(f(x + moved)) - float(f(x - moved))) / (2 * step)
    return found


def assert_gradient(f, x, exact=None):
    gradient, expected = np.asarray(jax.jit(jax.grad(f))(x)), differences(exact or jax.jit(f), x)
    assert np.abs(gradient - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize(("n", "m"), [(4, 9), (4, 30), (30, 4), (30, 40)])
def test_the_gradient_is_that_of_differences_on_both_sides(n, m):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n, 7)), 1.5 * random.standard_normal((m, 7))
    with x64(True):
        assert_gradient(lambda x: frechet_distance(x, y), x, lambda x: by_singular_values(x, y))
        assert_gradient(lambda y: frechet_distance(x, y), y, lambda y: by_singular_values(x, y))


@pytest.mark.parametrize("n", [24, 25])
def test_as_many_images_as_dimensions_have_the_gradient_of_differences(n):
    """Deviations from 1 to 3e-4: of the smallest roots eigenvalues of squares hold no digit, and the gradient was off by 4e-4."""
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((k, 24)) * np.logspace(-3.5, 0, 24) for k in (n, 40))
    expected = differences(lambda x: by_singular_values(x, y), x)
    with x64(True):
        stored = jax.tree.map(jnp.asarray, Gaussian.from_features(y).with_factor())
        for other in (y, stored):
            value, gradient = jax.jit(jax.value_and_grad(frechet_distance))(x, other)
            assert float(value) == pytest.approx(by_singular_values(x, y), rel=1e-10)
            assert np.linalg.norm(gradient - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_features_of_any_dtype_have_the_distance_of_their_doubles(dtype, on):
    """Beside others of another dtype: a network's under x64, half precision's, and a Gaussian with covariance and factor."""
    random = np.random.default_rng(0)
    scale = np.logspace(-3, 0, 12)
    x, w, y = (random.standard_normal(shape) for shape in ((20, 12), (12, 12), (40, 12)))
    gaussian = Gaussian.from_features(y * scale).with_factor()
    with x64(on):
        x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)

        def features(w):
            return jnp.tanh(x @ w) * scale.astype(dtype)

        expected = by_singular_values(np.asarray(features(w), np.float64), y * scale)
        value_and_grad = jax.value_and_grad(lambda w, other: frechet_distance(features(w), other))
        for other in (y * scale, jax.tree.map(jnp.asarray, gaussian)):
            value, gradient = value_and_grad(w, other)
            assert value.dtype == gradient.dtype == dtype
            assert float(value) == pytest.approx(expected, rel=max(1e-5, float(jnp.finfo(dtype).eps)))
            assert jnp.isfinite(gradient).all()
        assert jax.grad(lambda w: frechet_distance(y * scale, features(w)))(w).dtype == dtype


@pytest.mark.parametrize("case", ["doubled", "rank-deficient", "constant feature"])
@pytest.mark.parametrize("n", [5, 30])
def test_the_gradient_at_singular_covariances(case, n):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n, 7)), 1.5 * random.standard_normal((40, 7))
    if case == "doubled":
        x[1] = x[0]
    elif case == "constant feature":
        y[:, 3] = 0.2
    else:
        y[:, 5:] = y[:, :2]
    with x64(True):
        assert_gradient(lambda x: frechet_distance(x, y), x, lambda x: by_singular_values(x, y))


def test_kid_and_is_have_the_gradients_of_differences():
    random = np.random.default_rng(0)
    x, rows = random.standard_normal((5, 7)), random.standard_normal((9, 7))
    with x64(True):
        assert_gradient(lambda x: _kid_from_features(x, Reference(None, None, rows)), x)
        assert_gradient(lambda x: _is_from_logits(x, None), x)


@pytest.mark.parametrize(("n", "m", "rel", "relative_gradient"), [(8, 200, 1e-5, 1e-5), (200, 300, 1e-3, 2e-2)])
def test_the_distance_in_float32_comes_near_that_in_float64(n, m, rel, relative_gradient):
    """Variances from 1 to 1e-10, and a doubled image: squares of what matters would be below float32's rounding."""
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


def test_torch_agrees_in_value_and_gradient(stored, weights):
    """In float64, so that rounding moves no ReLU across its kink and no pixel past another in a max pool."""
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


def test_checkpointing_changes_nothing_but_memory(stored, weights):
    images = real()[0][:3]
    found = []
    for gradient_checkpointing in (False, True):
        reference = make_reference(stored, dims=64, weights=weights, gradient_checkpointing=gradient_checkpointing)
        program = jax.jit(jax.value_and_grad(fid_loss)).lower(images, reference)
        found.append((program.compile()(images, reference), program.as_text().count("optimization_barrier")))
    (plain, none), (again, barriers) = found
    assert barriers > none == 0  # what JAX keeps recomputed segments apart with
    assert float(plain[0]) == pytest.approx(float(again[0]), rel=1e-6)
    np.testing.assert_allclose(plain[1], again[1], rtol=1e-4, atol=1e-5 * np.abs(plain[1]).max())


@pytest.mark.parametrize("loss", [fid_loss, kid_loss, is_loss])
@pytest.mark.parametrize("n", [3, 13])
def test_microbatches_give_the_gradient_of_the_whole(loss, n):
    """Of images that are rows of the parameters, chosen by the latents; 13 of them are not a multiple of 5."""
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
        whole = jax.value_and_grad(lambda params: loss(make(params, latents), reference))(params)
        found = jax.jit(value_and_grad_in_microbatches(loss, make, size=5))(params, latents, reference)
    assert float(found[0]) == pytest.approx(float(whole[0]), rel=1e-9)
    gap = np.linalg.norm(np.asarray(found[1]["images"]) - np.asarray(whole[1]["images"]))
    assert gap <= 1e-9 * np.linalg.norm(whole[1]["images"])


def test_kid_is_unbiased_mmd_by_its_definition(reference, stored):
    images = real(count=6)[0]
    x = np.asarray(reference.feature_fn(images), np.float64)
    y = stored.rows.astype(np.float64)

    def k(a, b):
        return (a @ b / 64 + 1) ** 3

    among = [np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    expected = sum(among) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert float(kid_loss(images, reference)) == pytest.approx(expected, rel=1e-3)


def test_is_of_known_probabilities(weights_with_head):
    feature_fn = jax.tree_util.Partial(*fj.network(dims=1008, weights=weights_with_head))
    images = real()[0][:4]
    value, logits = jax.jit(lambda images, feature_fn: (is_loss(images, feature_fn), feature_fn(images)))(
        images, feature_fn
    )
    p = np.exp(np.asarray(logits, np.float64))
    p /= p.sum(axis=1, keepdims=True)
    expected = np.exp(np.mean([(row * np.log(row / p.mean(0))).sum() for row in p]))
    assert -float(value) == pytest.approx(expected, rel=1e-5)


def test_is_of_certain_classes_is_their_number():
    """Probabilities that are 0 or 1 in float32: three classes, equally often."""
    logits = 1000 * jnp.eye(6, 6)[:, [0, 1, 2]]
    assert float(_is_from_logits(logits[:3], None)) == pytest.approx(-3, rel=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[0.5]], r"images are list; expected an array \(n, h, w, 3\)"),
        (np.zeros((4, 8, 8, 3), np.uint8), r"images.astype\(jnp.float32\) / 255"),
        (np.zeros((4, 3, 8, 8), np.float32), r"expected \(n, h, w, 3\)"),
        (np.zeros((4, 0, 8, 3), np.float32), r"shape \(4, 0, 8, 3\); expected \(n, h, w, 3\)"),
        (np.full((4, 8, 8, 3), -1, np.float32), "range from -1 to -1; expected 0 to 1"),
    ],
)
def test_wrong_images_are_refused(reference, images, message):
    with pytest.raises(RequestError, match=message):
        fid_loss(images, reference)


def test_bad_images_are_named_or_give_nan(reference):
    images = real()[0]
    with pytest.raises(NonFiniteFeaturesError, match="image 3"):
        fid_loss(images.at[3, 0, 0, 0].set(jnp.nan), reference)
    compiled = jax.jit(fid_loss)
    assert np.isfinite(compiled(images, reference))
    assert np.isnan(compiled(images.at[3, 0, 0, 0].set(jnp.nan), reference))
    assert np.isnan(compiled(images.at[3, 0, 0, 0].set(3.0), reference))


def test_one_image_or_none_has_no_distribution(reference):
    for few in (0, 1):
        with pytest.raises(TooFewImagesError, match=f"got {few}"):
            fid_loss(real()[0][:few], reference)


def test_a_reference_made_otherwise_is_refused(weights, stored):
    with pytest.raises(MismatchError, match="convention"):
        make_reference(stored, dims=64, weights=weights, preprocessing="tensorflow")
    nowhere = "nowhere.pth"  # no weights are needed to see any of this
    with pytest.raises(MismatchError, match="convention"):
        make_reference(stored, dims=64, weights=nowhere, preprocessing="tensorflow")
    with pytest.raises(MismatchError, match="64 dimensions"):
        make_reference(stored, weights=nowhere)
    with pytest.raises(RequestError, match="statistics file"):
        make_reference([1, 2, 3], dims=64, weights=nowhere)
    others = replace(stored, spec=replace(stored.spec, weights=64 * "0"))
    with pytest.raises(MismatchError, match="weights"):
        make_reference(others, dims=64, weights=weights)
    with pytest.raises(RequestError, match="reference_of"):
        fid_loss(real()[0], "reference.npz")
    bare = FeatureStatistics(mean=stored.mean, covariance=stored.covariance, n=16, spec=stored.spec, label="here")
    with pytest.raises(RequestError, match="KID needs some"):
        kid_loss(real()[0], make_reference(bare, dims=64, weights=weights))


def test_microbatches_of_something_else_are_refused(reference):
    with pytest.raises(RequestError, match="fid_loss, kid_loss or is_loss"):
        value_and_grad_in_microbatches(np.sum, None)
    with pytest.raises(RequestError, match=r"size is 0; .* at least 1"):
        value_and_grad_in_microbatches(fid_loss, None, size=0)
    with pytest.raises(RequestError, match=r"batch_size is 0; .* at least 1"):
        make_reference(real()[1], batch_size=0, weights="nowhere.pth")
    step, z = value_and_grad_in_microbatches(fid_loss, lambda params, latents: latents["z"] * params), real()[0]
    for latents, told in (
        ({"z": z, "labels": np.zeros(5)}, "have 5 and 12 rows"),
        ({"z": z, "scale": 1.0}, "have no and 12 rows"),
        ({}, "have no rows"),
    ):
        with pytest.raises(RequestError, match=told):
            step(1.0, latents, reference)
    with pytest.raises(TooFewImagesError, match="got 0"):
        step(1.0, {"z": z[:0]}, reference)
    wrong = value_and_grad_in_microbatches(fid_loss, lambda params, latents: latents[:1], size=2)
    with pytest.raises(RequestError, match="gave 1 images for 2"):
        wrong(0.0, real()[0], reference)


def test_a_value_range_is_looked_at_before_weights(tmp_path):
    for of in (fj.network, lambda **options: make_reference(real()[1], **options)):
        with pytest.raises(RequestError, match=r"value_range is \(1, -1\); expected \(black, white\)"):
            of(value_range=(1, -1), weights=tmp_path / "nowhere.pth")


def test_a_value_range_may_be_a_list(reference, stored, weights):
    """As it comes out of a configuration file; a network must stay hashable."""
    signed = make_reference(stored, dims=64, weights=weights, value_range=[-1, 1])
    images = real()[0]
    assert float(fid_loss(2 * images - 1, signed)) == pytest.approx(float(fid_loss(images, reference)), rel=1e-4)

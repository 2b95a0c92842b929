"""The jax backend compared with other tools and OpenVINO, and statistics that stay on the devices."""

from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_images import FEW_PHOTOGRAPHS, photographs
from helpers import DATA, make_image_folder, run
from jax_toy import MIX, TOY, noise, toy_features, x64
from parity_kit import KIT, KIT_PHOTOS, PEERS, assert_close, assert_layers_close, collect_layers, needs_kit
from PIL import Image

import frechet
import frechet.jax as fj
from frechet.backends.jax import choose_devices
from frechet.backends.jax_runner import DeviceImages, JaxRunner
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.errors import MismatchError, NonFiniteFeaturesError, RequestError, TooFewImagesError
from frechet.preprocessing.registry import PREPROCESSINGS


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def either(request):
    """Run the test with x64 disabled and enabled."""
    with x64(request.param):
        yield request.param


@contextmanager
def compilations():
    """Collect the durations of all compilations inside the block."""
    found = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


# Features are copied to the host -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_features_of_one_layer_equal_pytorch_fids(weights, golden):
    ours = frechet.collect(photographs(), dims=64, weights=weights, backend="jax").rows
    assert_close(ours, golden["pytorch_fid_64"])


@pytest.mark.slow
@pytest.mark.parametrize("preprocessing", PEERS)
def test_features_of_every_preprocessing_equal_other_tools_and_openvinos(weights_with_head, golden, preprocessing):
    """All layers of one pass, and all photographs for the default preprocessing; XLA needs half a second for each of them."""
    settings = {"preprocessing": preprocessing, "weights": weights_with_head}
    is_default = preprocessing == "pytorch-fid"
    chosen = list(range(14)) if is_default else FEW_PHOTOGRAPHS
    images = [photographs()[index] for index in chosen]
    with x64(is_default):
        (found,) = collect_layers(images, extra_layers=["logits", "spatial"], backend="jax", **settings)
    assert_layers_close(found, golden, preprocessing, chosen)
    if is_default:
        assert_close(found["2048"].rows, frechet.collect(photographs(), backend="openvino", **settings).rows)


@pytest.mark.slow
def test_efficientnet_features_equal_another_implementation():
    with np.load(DATA / "efficientnet.npz") as archive:
        theirs = archive["features"]
    assert_close(frechet.collect(photographs(), extractor="efficientnet-lite0", backend="jax").rows, theirs)


@pytest.mark.slow
def test_fid_is_the_exact_distance_of_pytorch_fids_features(weights, golden):
    images, theirs = photographs(), golden["pytorch_fid_64"].astype(np.float64)
    score = frechet.fid(images[:7], images[7:], dims=64, weights=weights, backend="jax")
    centred = [(half - half.mean(axis=0)) / 6**0.5 for half in (theirs[:7], theirs[7:])]
    shift = theirs[:7].mean(axis=0) - theirs[7:].mean(axis=0)
    overlap = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    expected = shift @ shift + (centred[0] ** 2).sum() + (centred[1] ** 2).sum() - 2 * overlap
    assert float(score) == pytest.approx(expected, rel=1e-4)
    assert (score.provenance["backend"], score.provenance["device"]) == ("jax", "cpu")


@pytest.mark.exhaustive
@needs_kit
def test_fid_of_kit_photographs_equals_pytorch_fids(weights):
    images = [Image.open(file) for file in sorted((KIT / "photos").iterdir())]
    score = frechet.fid(images[:20], images[20:], weights=weights, backend="jax")
    assert float(score) == pytest.approx(KIT_PHOTOS["pytorch-fid"], rel=1e-5)


@pytest.mark.slow
def test_command_line_accepts_the_backend(tmp_path, weights):
    folder = make_image_folder(tmp_path / "a", 5)
    code, out, _ = run(
        "score", folder, folder, "--backend", "jax", "--dims", 64, "--weights", weights, "--interval", "none"
    )
    assert code == 0
    assert "FID-64" in out


def test_short_batches_compile_nothing_and_keep_their_length():
    images_on_device = DeviceImages(jax.local_devices()[:1], TOY.preprocessing, TOY.input_size)
    runner = JaxRunner(TOY.run, MIX, images_on_device, "float32")
    images = noise(9).astype(np.float32)
    batches = [images[:3], images[3:6], images[6:8], images[8:]]
    first = list(runner.map(batches[:1]))
    with compilations() as found:
        rest = list(runner.map(batches[1:]))
    assert not found
    assert [len(features) for features in first + rest] == [3, 3, 2, 1]
    np.testing.assert_allclose(np.concatenate(first + rest), toy_features(noise(9)), rtol=1e-5)


@pytest.mark.slow
def test_half_precision_is_close_and_cannot_be_compared(toy_options, folder):
    full = frechet.collect(folder, **toy_options, backend="jax")
    half = frechet.collect(folder, **toy_options, backend="jax", precision="bfloat16")
    gap = np.abs(half.rows - full.rows).max() / np.abs(full.rows).max()
    assert 1e-5 < gap < 0.05
    with pytest.raises(MismatchError, match="precision"):
        frechet.score_statistics(half, full)


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "cpu:99", "cpu:x"])
def test_unavailable_device_is_rejected(name):
    with pytest.raises(RequestError, match="Use device auto"):
        choose_devices(name)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(20, 30), (200, 30), (200, 300)])
def test_distance_of_jax_arrays_equals_that_of_numpy_arrays(n, m):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n, 64)), random.standard_normal((m, 64)) * 1.2
    arrays = frechet_terms(Gaussian.from_features(x), Gaussian.from_features(y))
    with x64(True):
        found = frechet_terms(Gaussian.from_features(jnp.asarray(x)), Gaussian.from_features(jnp.asarray(y)))
    np.testing.assert_allclose(found, arrays, rtol=1e-9)


# Statistics stay on the devices --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_statistics_of_uneven_batches_equal_those_of_all_images(either):
    images = noise(90)
    stats = fj.collect([images[:32], images[32:39], images[39:90], images[:0]], TOY, MIX)
    found, features = fj.to_statistics(stats), toy_features(images)
    assert found.n == 90
    np.testing.assert_allclose(found.mean, features.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(features, rowvar=False), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_float32_sums_keep_their_precision_over_many_batches():
    """With features far from zero and 2,000 batches, plain float32 sums of squares are wrong in the second digit."""
    random = np.random.default_rng(0)
    rows = (1000 + random.standard_normal((2000, 16, 3))).astype(np.float32)

    def body(stats, batch):
        return fj.merge(stats, fj._compute_moments(batch, None, TOY, ())), None

    found = fj.to_statistics(jax.jit(lambda rows: jax.lax.scan(body, fj.empty(TOY), rows)[0])(rows))
    exact = rows.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found.covariance, np.cov(exact, rowvar=False), rtol=0, atol=2e-6)


@pytest.mark.slow
def test_merged_statistics_equal_those_of_all_images(either):
    images = noise(60)
    step = jax.jit(fj.update)
    parts = [step(fj.empty(TOY), MIX, images[at]) for at in (slice(0, 20), slice(20, 60))]
    merged, whole = (fj.to_statistics(stats) for stats in (fj.merge(*parts), step(fj.empty(TOY), MIX, images)))
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-5, atol=1e-4)
    same = fj.merge(fj.empty(TOY), parts[0])
    np.testing.assert_array_equal(same.scatter[0], parts[0].scatter[0])
    assert int(fj.merge(parts[0], fj.empty(TOY)).n) == 20


@pytest.mark.slow
def test_in_loop_distance_equals_that_of_all_features_in_float64(either):
    """n = 2 d and 3 d with d = 64 rectified linear combinations of pixels; test_jax_devices.py uses a whole network."""
    random = np.random.default_rng(0)
    mix = random.standard_normal((192, 64)).astype(np.float32) / 1000
    mixed = replace(
        TOY,
        run=lambda ops, images, params: ops.relu(ops.matmul(ops.flatten(ops.from_nhwc(images)), params["mix"][0])),
        dims=64,
        spec=replace(TOY.spec, layer="64"),
    )
    image_sets = [noise(n, seed=n) // shade for n, shade in ((128, 1), (192, 2))]
    stats = [fj.collect([images[:50], images[50:70], images[70:]], mixed, {"mix": (mix,)}) for images in image_sets]
    rows = [np.maximum(images.reshape(-1, 192) @ mix.astype(np.float64), 0) for images in image_sets]
    expected = frechet_terms(*map(Gaussian.from_features, rows)).total
    assert float(fj.fid(*stats)) == pytest.approx(expected, rel=1e-5 if either else 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [10, 40])
def test_in_loop_distance_is_accurate_for_fewer_images_than_features(either, batch):
    """n = 40 images of which 5 are repeated, d = 256; the zero eigenvalues must stay zero in float32."""
    random = np.random.default_rng(0)
    mix = random.standard_normal((256, 256)) * np.arange(1, 257)[:, None] ** -0.7
    rows, other = (np.maximum(random.standard_normal((n, 256)) @ mix + 0.3, 0).astype(np.float32) for n in (40, 600))
    rows[:5] = rows[5:10]
    network = replace(TOY, dims=256)
    stats = fj.empty(network)
    for start in range(0, 40, batch):
        stats = fj.merge(stats, fj._compute_moments(jnp.asarray(rows[start : start + batch]), None, network, ()))
    reference = replace(frechet.Statistics.from_features(other), spec=network.spec)
    expected = frechet_terms(*(Gaussian.from_features(x.astype(np.float64)) for x in (rows, other))).total
    assert float(fj.fid(stats, reference)) == pytest.approx(expected, rel=1e-7)


def align(shape, dtype):
    """Return an array in memory that JAX uses without a copy: it starts at a multiple of 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_iterator_may_use_its_memory_again(dtype):
    images, buffer = noise(1600, size=32), align((200, 32, 32, 3), dtype)
    white = 255 if dtype == np.float32 else 1

    def refill():
        for start in range(0, 1600, 200):
            buffer[:] = images[start : start + 200] / white
            yield buffer
        buffer[:] = 0

    found = fj.to_statistics(fj.collect(refill(), TOY, MIX))
    expected = fj.to_statistics(fj.collect([images], TOY, MIX))
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)


@pytest.mark.slow
def test_known_image_sizes_compile_nothing():
    step, stats = fj.make_sharded_update(MIX), fj.empty(TOY)
    for images in (noise(16), noise(16, size=12)):
        stats = step(stats, images)
    with compilations() as found:
        for n in (16, 3, 40, 1, 16):
            stats = step(step(stats, noise(n)), noise(n, size=12))
    assert not found
    assert int(stats.n) == 2 * (16 + 16 + 3 + 40 + 1 + 16)


@pytest.mark.slow
def test_masked_images_are_ignored():
    images = noise(10)
    counted = np.arange(10) < 7
    found = fj.to_statistics(jax.jit(fj.update)(fj.empty(TOY), MIX, images, counted))
    assert found.n == 7
    np.testing.assert_allclose(found.mean, toy_features(images[:7]).mean(axis=0), rtol=1e-6)


@pytest.mark.slow
def test_mixed_sizes_are_resized_on_the_host(toy_options):
    apply, params = fj.network(toy_options["extractor"], weights=toy_options["weights"])
    images = [np.asarray(image.convert("RGB")) for image in photographs()[-4:]]
    found = fj.to_statistics(fj.collect([images], apply, params))
    expected = frechet.collect(images, **toy_options)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-4, atol=1e-6)
    with pytest.raises(RequestError, match="pass only the images"):
        fj.collect([[noise(3), np.arange(3)]], TOY, MIX)


@pytest.mark.slow
def test_floats_are_interpreted_in_value_range():
    images = noise(12)
    signed = replace(TOY, value_range=(-1.0, 1.0))
    found = fj.to_statistics(fj.collect([(images / 127.5 - 1).astype(np.float32)], signed, MIX))
    np.testing.assert_allclose(found.mean, toy_features(images).mean(axis=0), rtol=1e-5)


@pytest.mark.slow
def test_saved_device_statistics_are_a_reference(tmp_path):
    fj.to_statistics(fj.collect([noise(30)], TOY, MIX)).save(tmp_path / "reference.npz")
    stats = fj.collect([noise(30, seed=1)], TOY, MIX)
    x, y = toy_features(noise(30, seed=1)), toy_features(noise(30))
    expected = frechet_terms(Gaussian.from_features(x), Gaussian.from_features(y)).total
    assert float(fj.fid(stats, tmp_path / "reference.npz")) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_statistics_of_another_preprocessing_are_rejected():
    other = replace(TOY, preprocessing=PREPROCESSINGS["clean"], spec=replace(TOY.spec, preprocessing="clean"))
    one, two = (fj.collect([noise(9)], toy, MIX) for toy in (TOY, other))
    with pytest.raises(MismatchError, match="preprocessing"):
        fj.fid(one, two)
    with pytest.raises(RequestError, match="different networks"):
        fj.merge(one, two)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 3, 8, 8), np.uint8), r"channels last, images.transpose\(0, 2, 3, 1\)"),
        (np.zeros((4, 8, 8, 1), np.uint8), "repeat the grey channel"),
        (np.zeros((8, 8, 3), np.uint8), r"expected \(n, h, w, 3\)"),
        (np.zeros((4, 8, 8, 3), np.int32), "int32; expected uint8"),
    ],
)
def test_images_of_wrong_shape_or_dtype_are_rejected(images, message):
    with pytest.raises(RequestError, match=message):
        fj.collect([images], TOY, MIX)
    with pytest.raises(RequestError, match=message):
        jax.jit(fj.update)(fj.empty(TOY), MIX, images)


def test_invalid_arguments_are_rejected():
    stats, images = fj.empty(TOY), noise(4)
    for mask in (np.ones(4), np.ones(3, bool), np.ones((4, 1), bool), [True] * 4):
        with pytest.raises(RequestError, match=r"mask is .*; expected a bool array of shape \(4,\)"):
            fj.update(stats, MIX, images, mask)
    with pytest.raises(RequestError, match=r"stats is dict; expected Moments.*update\(stats, params, images"):
        fj.update(MIX, stats, images)
    statistics = frechet.Statistics.from_features(np.eye(9, 3))
    for call in (fj.merge, fj.fid):
        with pytest.raises(RequestError, match=r"is FeatureStatistics; expected Moments.*to_statistics at the end"):
            call(statistics, stats)
    with pytest.raises(TypeError, match=r"frechet.jax.network\(\) .* 'value_rang'; did you mean 'value_range'"):
        fj.network(value_rang=(0, 1))


@pytest.mark.slow
def test_values_out_of_range_are_rejected_or_nan():
    with pytest.raises(RequestError, match="range from 0 to 255; expected 0 to 1"):
        TOY(MIX, np.asarray([[[[0.0, 255.0, 0.0]]]], np.float32))
    stats = fj.collect([np.full((4, 8, 8, 3), 255, np.float32)], TOY, MIX)
    with pytest.raises(NonFiniteFeaturesError, match="value_range"):
        fj.fid(stats, stats)


@pytest.mark.slow
def test_statistics_of_one_image_are_rejected():
    with pytest.raises(TooFewImagesError, match="got 1 image; at least 2 are required"):
        fj.to_statistics(fj.collect([noise(1)], TOY, MIX))


@pytest.mark.slow
def test_weights_are_arguments_of_the_compiled_program(weights):
    apply, params = fj.network(dims=64, weights=weights)
    program = jax.jit(fj.update).lower(fj.empty(apply), params, noise(2, 32)).as_text()
    assert "dense_resource" not in program
    assert (
        max(map(len, program.splitlines())) < 400_000
    )  # a program with the largest kernel as a constant would be longer


def test_flax_stores_and_restores_statistics(either):
    serialization = pytest.importorskip("flax.serialization")
    images = noise(20)
    stats = fj.update(fj.empty(TOY), MIX, images[:12])
    restored = serialization.from_bytes(fj.empty(TOY), serialization.to_bytes(stats))
    whole, again = (fj.to_statistics(fj.update(each, MIX, images[12:])) for each in (stats, restored))
    assert again.n == 20
    np.testing.assert_array_equal(again.covariance, whole.covariance)
    other = fj.empty(replace(TOY, spec=replace(TOY.spec, weights="1")))
    with pytest.raises(MismatchError, match=r"weights='0'.*weights='1'"):
        serialization.from_bytes(other, serialization.to_bytes(stats))


@pytest.mark.slow
def test_networks_with_the_same_weights_and_other_functions_are_not_mixed_up(toy_options, extractor_table, tmp_path):
    """The compiled program of the first one is not used for the second one, nor are its statistics."""
    row = extractor_table["toy-name"]

    def scaled(factor):
        def run_scaled(ops, images, weights, layers):
            return factor * row.model.function(ops, images, weights, layers)

        return replace(row, model=replace(row.model, function=run_scaled))

    images, found = noise(8), []
    for factor in (1.0, 5.0):
        extractor_table._entries["toy-name"] = scaled(factor)
        apply, params = fj.network("toy-name", weights=toy_options["weights"])
        found.append((np.asarray(apply(params, images)), fj.collect([images], apply, params)))
    np.testing.assert_allclose(found[1][0], 5 * found[0][0], rtol=1e-5)
    fj.to_statistics(found[0][1]).save(tmp_path / "one.npz")
    with pytest.raises(MismatchError, match=r"factor of .*run_scaled is 5\.0 and 1\.0"):
        fj.fid(found[1][1], tmp_path / "one.npz")

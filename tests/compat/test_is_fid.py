"""The functions of IS-FID-PyTorch against direct computations with torch and SciPy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from golden_images import make_tiles  # noqa: E402

import frechet  # noqa: E402
from frechet.compat.is_fid import _iter_batches, fid, inception_score  # noqa: E402
from frechet.errors import RequestError  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images():
    """Return (image, label) pairs with tensors (3, h, w) in [-1, 1], like a dataset."""
    stack = make_tiles("skimage/data/astronaut.png", 7).transpose(0, 3, 1, 2)
    return [(torch.from_numpy(image.copy()).float() / 127.5 - 1, 0) for image in stack]


def test_inception_score_equals_its_definition_over_consecutive_splits(images, weights_with_head):
    """Splits have n // splits images, the rest is dropped; the entropy is computed by SciPy as in the original."""
    scipy = pytest.importorskip("scipy.stats")
    logits = frechet.collect(
        make_tiles("skimage/data/astronaut.png", 7), dims=1008, weights=weights_with_head, backend="torch"
    ).rows
    predictions = torch.softmax(torch.from_numpy(logits).double(), 1).numpy()
    expected = []
    for k in range(3):
        part = predictions[k * 2 : (k + 1) * 2]
        expected.append(np.exp(np.mean([scipy.entropy(row, part.mean(0)) for row in part])))
    found = inception_score(images, batch_size=4, resize=True, splits=3, weights=weights_with_head)
    assert found == pytest.approx((np.mean(expected), np.std(expected)), rel=1e-5)


def test_the_table_of_the_readme(monkeypatch):
    """Mean and standard deviation for 5, 10 and 20 splits of logits, from the definition in float64."""
    logits = np.random.default_rng(0).normal(size=(203, 11)).astype(np.float32)
    monkeypatch.setattr("frechet.compat.is_fid._load_network", lambda *_: None)
    monkeypatch.setattr("frechet.compat.is_fid._extract_features", lambda *_: logits)
    for splits in (5, 10, 20):
        scores = []
        for part in logits[: 203 // splits * splits].astype(float).reshape(splits, -1, 11):
            p = np.exp(part) / np.exp(part).sum(axis=1, keepdims=True)
            scores.append(np.exp((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean()))
        assert inception_score([], splits=splits) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-6)


def test_fid_equals_the_score(images, weights):
    halves = [make_tiles("skimage/data/astronaut.png", 7)[:3], make_tiles("skimage/data/astronaut.png", 7)[3:]]
    expected = frechet.fid(*halves, weights=weights, backend="torch")
    assert fid(images[:3], images[3:], resize=True, weights=weights) == pytest.approx(float(expected), rel=1e-5)


def test_a_dataset_may_use_its_memory_again(images):
    class Dataset(list):
        buffer = torch.empty_like(images[0][0])

        def __getitem__(self, index):
            return self.buffer.copy_(super().__getitem__(index)[0]), 0

    read = torch.stack([image for batch in _iter_batches(Dataset(images), 4) for image in batch])
    assert torch.equal(read, torch.stack([image for image, _ in images]))


def test_items_of_several_images_are_rejected(images, weights):
    batches = [[image for image, _ in images[:3]], [image for image, _ in images[3:6]]]
    with pytest.raises(RequestError, match="list of several images; expected one image"):
        fid(batches, batches, resize=True, weights=weights)


def test_images_of_another_size_and_unknown_extractors_are_rejected(images, weights):
    with pytest.raises(RequestError, match="resize=True"):
        fid(images[:3], images[3:], weights=weights)
    with pytest.raises(RequestError, match=r"'vgg16'.*inception-torchvision"):
        fid(images, images, extractor="vgg16")

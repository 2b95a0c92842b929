"""Python objects as images: each item is one image, and the memory of an item may be used again."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence
from toy import TOY, first_six_values

from frechet.errors import FrechetError, SourceError
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.sources.generator import GeneratorSource
from frechet.images.sources.registry import open_source

COUNT = 40


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), np.uint8)


def collect_rows(given, **settings):
    return collect_statistics(open_source(given), Settings(**settings), TOY, keep_all=True).rows


def split(items, size=4, kind=list):
    return [kind(items[start : start + size]) for start in range(0, len(items), size)]


def load(items, **options):
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(items, **options)


def to_tensor(image):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


NESTED = {
    "lists": split,
    "tuples": lambda items: split(items, kind=tuple),
    "tensors": lambda items: split([to_tensor(image) for image in items]),
    "PIL images": lambda items: split([Image.fromarray(image) for image in items]),
    "iterator of lists": lambda items: iter(split(items)),
    "dicts of lists": lambda items: [{"image": batch} for batch in split(items)],
    "lists of pairs": lambda items: split([(image, 0) for image in items]),
    "pairs of lists": lambda items: [(batch, [0] * len(batch)) for batch in split(items)],
    "pairs of images": lambda items: list(zip(items, items[::-1], strict=True)),
    "arrays": lambda items: [np.stack(batch) for batch in split(items)],
    "loader of lists": lambda items: load(split(items), batch_size=2, collate_fn=list),
    "loader without batches": lambda items: load(split(items), batch_size=None, collate_fn=list),
    "loader of pairs of images": lambda items: load([(to_tensor(x), to_tensor(x)) for x in items], batch_size=5),
    "iterator of a loader": lambda items: iter(load(items, batch_size=4, collate_fn=list)),
    "function": lambda items: GeneratorSource(lambda n: split(items)[:1] * n, COUNT),
    "labels": lambda items: load(items, batch_size=4, collate_fn=lambda batch: (batch, batch[::-1])),
}


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("on_bad_image", ["stop", "skip"])
def test_an_item_of_several_images_is_rejected(images, kind, on_bad_image):
    with pytest.raises(FrechetError) as caught:
        collect_rows(NESTED[kind](list(images)), on_bad_image=on_bad_image)
    if kind not in ("arrays", "lists of pairs", "pairs of lists"):
        assert "expected one" in str(caught.value) or on_bad_image == "skip"


def test_the_message_names_the_item_and_the_fix(images):
    with pytest.raises(SourceError, match=r"a list of 4 images; expected one image per item.*for image in batch\]"):
        collect_rows(split(list(images)), on_bad_image="skip")


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_images_with_labels_are_one_image_per_item(images, batch_size):
    """A batch of two images with two labels is not a batch of two lists."""
    boxes = np.zeros((2, 4), np.float32)
    loaders = [
        load(list(images), batch_size=batch_size, collate_fn=lambda batch: (batch, [0] * len(batch))),
        load([(image, boxes) for image in images], batch_size=batch_size, collate_fn=list),
    ]
    singles = [[image] for image in images]
    for given in (*loaders, [(image, boxes, "a caption") for image in images], singles):
        np.testing.assert_array_equal(collect_rows(given), first_six_values(images))


class Dataset:
    """A dataset of the items that `refill` makes of each image, in memory that it uses again and again."""

    def __init__(self, images, refill):
        self.images, self.refill = images, refill

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.refill(self.images[index])

    def __iter__(self):
        return map(self.refill, self.images)


def make_array_refill():
    buffer = np.empty((4, 4, 3), np.uint8)

    def refill(image):
        buffer[:] = image
        return buffer

    return refill


def make_tensor_refill():
    torch = pytest.importorskip("torch")
    buffer = torch.empty((3, 4, 4), dtype=torch.uint8)
    return lambda image: buffer.copy_(to_tensor(image))


def make_pil_refill():
    buffer = Image.new("RGB", (4, 4))

    def refill(image):
        buffer.paste(Image.fromarray(image))
        return buffer

    return refill


def make_tuple_refill():
    refill = make_array_refill()
    return lambda image: (refill(image), 0)


def make_list_refill():
    refill, item = make_array_refill(), [None, 0]

    def refill_list(image):
        item[0] = refill(image)
        return item

    return refill_list


def make_dict_refill():
    refill = make_tensor_refill()
    return lambda image: {"image": refill(image), "label": 0}


def make_ring_refill():
    ring = [make_pil_refill() for _ in range(4)]

    def refill(image):
        ring.append(ring.pop(0))
        return ring[-1](image)

    return refill


REFILLS = [
    make_array_refill,
    make_tensor_refill,
    make_pil_refill,
    make_tuple_refill,
    make_list_refill,
    make_dict_refill,
    make_ring_refill,
]


@pytest.mark.parametrize("make", REFILLS)
def test_memory_that_is_used_again_holds_each_image_when_it_is_read(images, make):
    expected = first_six_values(images)
    np.testing.assert_array_equal(collect_rows(iter(Dataset(images, make()))), expected)
    np.testing.assert_array_equal(collect_rows(Dataset(images, make()), workers=4), expected)


def test_a_loader_may_use_its_memory_again(images):
    torch = pytest.importorskip("torch")
    buffer = torch.empty((4, 3, 4, 4), dtype=torch.uint8)

    def collate(batch):
        for slot, image in zip(buffer, batch, strict=True):
            slot.copy_(to_tensor(image))
        return buffer

    loader = load(list(images), batch_size=4, collate_fn=collate)
    np.testing.assert_array_equal(collect_rows(loader), first_six_values(images))


def test_a_function_may_use_its_memory_again():
    """It is called three times, and each list holds the same arrays."""
    images = np.random.default_rng(0).integers(0, 256, (150, 4, 4, 3), np.uint8)
    refills, done = [make_array_refill() for _ in range(64)], 0

    def generate(n):
        nonlocal done
        done += n
        return [refill(image) for refill, image in zip(refills, images[done - n : done], strict=False)]

    np.testing.assert_array_equal(collect_rows(GeneratorSource(generate, 150)), first_six_values(images))


def test_frames_of_an_animation_are_different_images(images, tmp_path):
    frames = [Image.fromarray(image) for image in images]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.tiff") as animation:
        rows = collect_rows(ImageSequence.Iterator(animation))
    np.testing.assert_array_equal(rows, first_six_values(images))


def test_files_of_an_iterator_keep_their_format_and_damage_is_reported(images, tmp_path):
    for index, image in enumerate(images[:5]):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    (tmp_path / "4.png").write_bytes((tmp_path / "4.png").read_bytes()[:60])
    opened = (Image.open(io.BytesIO(path.read_bytes())) for path in sorted(tmp_path.iterdir()))
    statistics = collect_statistics(open_source(opened), Settings(on_bad_image="skip"), TOY)
    assert (statistics.n, dict(statistics.formats), len(statistics.skipped_images)) == (4, {"PNG": 4}, 1)


def test_masked_pixels_are_rejected(images):
    masked = np.ma.masked_array(images, images > 200)
    for given in (masked, list(masked)):
        with pytest.raises(FrechetError, match="masked"):
            collect_rows(given)
    np.testing.assert_array_equal(collect_rows(np.ma.masked_array(images, False)), first_six_values(images))

"""The interface of image sources: what the base class provides, and where an image's file is."""

import dataclasses
import pickle

import numpy as np
import pytest
from PIL import Image
from test_class_names import make_folder, make_npz, make_tar, make_zip, upload
from toy import TOY

import frechet
from frechet.errors import RequestError, SourceError
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.image import ImageRef, ImageSource, skipped_formats_note
from frechet.images.pixels import find_pixel_error
from frechet.images.sources import registry
from frechet.images.sources.files import FileLoader
from frechet.images.sources.registry import open_source


class ConstantSource(ImageSource):
    """The smallest source: image i has all values i."""

    def __init__(self, count):
        super().__init__("constants")
        self.count = count

    def __len__(self):
        return self.count

    def load(self, source_index):
        return np.full((4, 4, 3), source_index, np.uint8)


def test_a_source_needs_only_a_length_and_a_way_to_load_an_image():
    source = ConstantSource(5)
    assert open_source(source) is source
    assert (source.location, source.unsupported, list(skipped_formats_note(source))) == (None, {}, [])
    statistics = collect_statistics(source, Settings(), TOY, keep_all=True)
    np.testing.assert_array_equal(statistics.rows, np.arange(5)[:, None].repeat(6, 1))
    assert statistics.labels == tuple(f"constants[{index}]" for index in range(5))
    with pytest.raises(RequestError, match=r"constants.*Pass a folder, an archive or a file"):
        list(source.fingerprints([0]))
    with pytest.raises(RequestError, match=r"constants\[1\] has no class"):
        source.get_class_names([1, 2])


def test_a_source_without_a_way_to_load_images_is_incomplete():
    class Incomplete(ImageSource):
        def __len__(self):
            return 2

    (image_ref,) = Incomplete("incomplete").iter_images([1])
    with pytest.raises(NotImplementedError, match="Incomplete must implement load or iter_loaders"):
        image_ref.load()
    with pytest.raises(TypeError, match="abstract"):
        ImageSource("no length")


def test_a_new_kind_of_storage_needs_one_row(tmp_path, monkeypatch):
    (tmp_path / "a.count").write_text("3")
    with pytest.raises(SourceError, match=r"file of type \.count; expected a folder, \.zip"):
        open_source(tmp_path / "a.count")
    monkeypatch.setitem(registry._SOURCES, ".count", "zip.CountSource")
    monkeypatch.setattr(
        "frechet.images.sources.zip.CountSource", lambda path: ConstantSource(int(path.read_text())), raising=False
    )
    assert len(open_source(tmp_path / "a.count")) == 3


def test_the_path_of_an_image_is_its_file_or_the_archive_that_contains_it(tmp_path):
    folder = make_folder(tmp_path / "images")
    archive, array = make_zip(tmp_path / "a.zip"), make_npz(tmp_path / "a.npz")
    for source, paths in (
        (open_source(folder), [folder / "cat/deep/er/1.png", folder / "dog/2.png"]),
        (open_source(archive), [archive] * 2),
        (open_source(array), [array] * 2),
        (open_source(str(tmp_path / "{a.zip,images}")), [archive] * 2),
    ):
        image_refs = list(source.iter_images([1, 2]))
        assert [image_ref.path for image_ref in image_refs] == paths
        assert [image_ref.url for image_ref in image_refs] == [None, None]
    (image_ref,) = open_source(str(tmp_path / "{a.zip,images}")).iter_images([6])
    assert image_ref.path == folder / "dog/2.png"
    (image_ref,) = open_source(np.zeros((3, 2, 2, 3), np.uint8)).iter_images([0])
    assert (image_ref.path, image_ref.url) == (None, None)


def test_the_url_of_an_image_is_that_of_its_file_or_folder(tmp_path):
    url = upload(make_tar(tmp_path / "a.tar"), f"{tmp_path.name}-url.tar")
    (image_ref,) = open_source(url).iter_images([2])
    assert (image_ref.path, image_ref.url) == (None, url)


def test_image_refs_are_compared_and_pickled_by_what_they_load():
    ref = ImageRef(0, "a", FileLoader("a.png"))
    assert pickle.loads(pickle.dumps(ref)) == ref == ImageRef(0, "a", FileLoader("a.png"), lambda: (None, "url"))
    assert ref != ImageRef(0, "a", FileLoader("b.png"))


def test_image_refs_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ImageRef(0, "a", lambda: Image.new("RGB", (2, 2))).label = "b"


@pytest.mark.parametrize(
    ("dtype", "shape", "layout"),
    [
        ("uint8", (4, 4), "hwc"),
        ("uint8", (4, 4, 1), "hwc"),
        ("uint8", (4, 4, 4), "hwc"),
        ("uint8", (5, 4, 4, 3), "nhwc"),
        ("torch.uint8", (3, 4, 4), "chw"),
        ("torch.uint8", (4, 4), "chw"),
    ],
)
def test_8_bit_images_pass_the_check(dtype, shape, layout):
    assert find_pixel_error(dtype, shape, layout) is None


@pytest.mark.parametrize(
    ("dtype", "shape", "layout", "fix"),
    [
        ("float32", (4, 4, 3), "hwc", "(x * 255).round().astype('uint8')"),
        ("float32", (9, 4, 4, 3), "nhwc", "((x + 1) * 127.5).round().astype('uint8')"),
        ("torch.float32", (3, 4, 4), "chw", "Remove ToTensor and Normalize"),
        ("torch.bfloat16", (3, 4, 4), "chw", "(x * 255).round().byte()"),
        ("int64", (4, 4, 3), "hwc", "astype('uint8')"),
        ("uint8", (3, 8, 8), "hwc", "x.transpose(1, 2, 0)"),
        ("uint8", (8, 8, 3), "chw", "x.permute(2, 0, 1)"),
        ("uint8", (9, 3, 8, 8), "nhwc", "x.transpose(0, 2, 3, 1)"),
        ("uint8", (9, 8, 8), "nhwc", "x[..., None]"),
        ("float32", (9, 2048), "nhwc", "--features (features=True)"),
        ("uint8", (0, 8, 8, 3), "nhwc", "No axis may be 0"),
        ("uint8", (8, 8, 3, 1, 1), "nhwc", "4 axes"),
        ("uint8", (7,), "hwc", "3 axes"),
    ],
)
def test_other_arrays_are_rejected_with_their_type_and_shape_and_a_fix(dtype, shape, layout, fix):
    error = find_pixel_error(dtype, shape, layout)
    assert error.startswith(f"is {dtype} of shape {shape}; expected uint8 (")
    assert fix in error


def test_images_that_are_too_large_are_rejected():
    assert "536870912 bytes per image" in find_pixel_error("uint8", (2, 1 << 15, 1 << 15, 3), "nhwc")


def test_float_arrays_are_rejected_before_the_run_starts():
    with pytest.raises(SourceError, match=r"float64 of shape \(5, 4, 4, 3\)"):
        frechet.score(np.zeros((5, 4, 4, 3)), np.zeros((5, 4, 4, 3), np.uint8))

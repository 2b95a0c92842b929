"""Manipulated work directories: each is computed again where it is wrong, or rejected; the statistics keep their bits."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import assert_same_statistics
from toy import TOY

from frechet.errors import FrechetError
from frechet.execution.chunks import compute_plan_digest, read_chunk, write_chunk
from frechet.execution.collect import collect_statistics
from frechet.execution.settings import Settings
from frechet.images.loader import CHUNK_SIZE
from frechet.images.sources.registry import open_source
from frechet.statistics.accumulator import LayerSummary

COUNT = 2 * CHUNK_SIZE + 40


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two arrays of images, and the work directories of finished runs of each."""
    folder = tmp_path_factory.mktemp("images")
    for seed, name in enumerate(("own", "other")):
        pixels = np.random.default_rng(seed).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
        np.save(folder / f"{name}.npy", pixels)
        collect(folder / f"{name}.npy", folder / name)
    return folder


def collect(images, work_dir=None, **settings):
    return collect_statistics(open_source(images), Settings(work_dir=work_dir, **settings), TOY)


def chunk_path(folder, number):
    return folder / "images" / f"chunk-{number:08d}.npz"


def copy_chunk(folder, source, number, to):
    shutil.copy(chunk_path(source, number), chunk_path(folder, to))


def forge(folder, number, **changes):
    """Write a changed chunk with the checksum of the run that it belongs to."""
    plan = json.loads((folder / "images" / "plan.json").read_text())
    identity = f"{compute_plan_digest(plan)} {number}"
    path = chunk_path(folder, number)
    with open(path, "rb") as stream:
        chunk = read_chunk(stream, identity)
    changes = {name: change(chunk) for name, change in changes.items()}
    with open(path, "wb") as stream:
        write_chunk(replace(chunk, **changes), stream, identity)


def select(chunk, chosen):
    """Return what forge() needs to keep some images of a chunk, or to repeat them."""
    layer = chunk.layers["features"]
    return {
        "indices": chunk.indices[chosen],
        "image_checks": chunk.image_checks[chosen],
        "layers": {"features": LayerSummary(indices=layer.indices[chosen], rows=layer.rows[chosen])},
    }


def keep(chosen):
    return {
        name: lambda chunk, name=name: select(chunk, chosen)[name] for name in ("indices", "image_checks", "layers")
    }


def change_layer(change):
    def apply(chunk):
        layer = chunk.layers["features"]
        return {"features": LayerSummary(**{"indices": layer.indices, "rows": layer.rows, **change(layer)})}

    return {"layers": apply}


def edit_plan(folder, change):
    path = folder / "images" / "plan.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def save_again(folder, **changes):
    """As a user would with NumPy, who leaves the archive without a comment."""
    with np.load(chunk_path(folder, 0)) as archive:
        arrays = dict(archive)
    np.savez(chunk_path(folder, 0), **arrays | {name: change(arrays[name]) for name, change in changes.items()})


def save_with_comment(folder):
    """With the checksum of the chunk that it replaces."""
    from zipfile import ZipFile

    with ZipFile(chunk_path(folder, 0)) as archive:
        comment = archive.comment
    save_again(folder, layer0_rows=lambda rows: rows + 1)
    with ZipFile(chunk_path(folder, 0), "a") as archive:
        archive.comment = comment


def add_nan(layer):
    rows = layer.rows.copy()
    rows[5, 2] = np.nan
    return {"rows": rows}


FIRST = np.arange(CHUNK_SIZE)
MANIPULATIONS = {
    "a chunk of another run": lambda own, other: copy_chunk(own, other, 1, 1),
    "all chunks of another run": lambda own, other: [copy_chunk(own, other, number, number) for number in range(3)],
    "another run's chunks with its plan edited": lambda own, other: (
        [copy_chunk(own, other, number, number) for number in range(3)]
        and edit_plan(own, lambda plan: plan | {"image_fingerprints": plan["image_fingerprints"]})
    ),
    "a chunk in the place of another": lambda own, other: copy_chunk(own, own, 0, 1),
    "a full chunk in the place of the last": lambda own, other: copy_chunk(own, own, 0, 2),
    "the last chunk in the place of a full one": lambda own, other: copy_chunk(own, own, 2, 0),
    "two chunks exchanged": lambda own, other: (
        copy_chunk(own, own, 0, 7),
        copy_chunk(own, own, 1, 0),
        copy_chunk(own, own, 7, 1),
        chunk_path(own, 7).unlink(),
    ),
    "one more chunk": lambda own, other: copy_chunk(own, own, 0, 3),
    "a chunk missing": lambda own, other: chunk_path(own, 1).unlink(),
    "an empty chunk": lambda own, other: chunk_path(own, 1).write_bytes(b""),
    "half of a file": lambda own, other: chunk_path(own, 1).write_bytes(chunk_path(own, 1).read_bytes()[:5000]),
    "two files in one": lambda own, other: chunk_path(own, 1).write_bytes(
        chunk_path(own, 0).read_bytes() + chunk_path(own, 1).read_bytes()
    ),
    "a chunk that is a link to another run's": lambda own, other: (
        chunk_path(own, 1).unlink(),
        chunk_path(own, 1).symlink_to(chunk_path(other, 1)),
    ),
    "a chunk that is a folder": lambda own, other: (chunk_path(own, 2).unlink(), chunk_path(own, 2).mkdir()),
    "saved again": lambda own, other: save_again(own),
    "saved again with other rows": lambda own, other: save_again(own, layer0_rows=lambda rows: 2 * rows),
    "saved with the old checksum": lambda own, other: save_with_comment(own),
    "half of the images": lambda own, other: forge(own, 0, **keep(FIRST[::2])),
    "no images": lambda own, other: forge(own, 0, **keep(FIRST[:0])),
    "all images twice": lambda own, other: forge(own, 0, **keep(np.concatenate([FIRST, FIRST]))),
    "one image twice": lambda own, other: forge(own, 0, **keep(np.maximum(FIRST, 1))),
    "images out of order": lambda own, other: forge(own, 0, **keep(FIRST[::-1])),
    "the last chunk doubled": lambda own, other: forge(own, 2, **keep(np.tile(np.arange(40), 2))),
    "negative indices": lambda own, other: forge(own, 0, indices=lambda chunk: chunk.indices - 5),
    "indices of another chunk": lambda own, other: forge(own, 0, indices=lambda chunk: chunk.indices + CHUNK_SIZE),
    "indices that are not integers": lambda own, other: forge(own, 0, indices=lambda chunk: chunk.indices + 0.5),
    "rows of other images": lambda own, other: forge(
        own, 0, **change_layer(lambda layer: {"indices": layer.indices + 1})
    ),
    "half of the rows": lambda own, other: forge(
        own, 0, **change_layer(lambda layer: {"indices": layer.indices[::2], "rows": layer.rows[::2]})
    ),
    "a row of NaN": lambda own, other: forge(own, 0, **change_layer(add_nan)),
    "rows of infinity": lambda own, other: forge(own, 0, **change_layer(lambda layer: {"rows": layer.rows * np.inf})),
    "rows in float64": lambda own, other: forge(
        own, 0, **change_layer(lambda layer: {"rows": layer.rows.astype(float)})
    ),
    "a column missing": lambda own, other: forge(own, 0, **change_layer(lambda layer: {"rows": layer.rows[:, 1:]})),
    "another layer": lambda own, other: forge(own, 0, layers=lambda chunk: {"logits": chunk.layers["features"]}),
    "no layers": lambda own, other: forge(own, 0, layers=lambda chunk: {}),
    "fewer image checks": lambda own, other: forge(own, 0, image_checks=lambda chunk: chunk.image_checks[:9]),
    "one more skipped image": lambda own, other: forge(own, 0, skipped_images=lambda chunk: ["a.png: broken"]),
    "a plan of fewer images": lambda own, other: edit_plan(own, lambda plan: plan | {"n_images": CHUNK_SIZE}),
    "a plan of another extractor": lambda own, other: edit_plan(own, lambda plan: plan | {"extractor": "inception"}),
    "a plan of fewer chunks": lambda own, other: edit_plan(
        own, lambda plan: plan | {"image_fingerprints": plan["image_fingerprints"][:2]}
    ),
    "a plan without layers": lambda own, other: edit_plan(
        own, lambda plan: {k: v for k, v in plan.items() if k != "layers"}
    ),
    "a plan that is a list": lambda own, other: edit_plan(own, list),
    "no plan": lambda own, other: (own / "images" / "plan.json").unlink(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MANIPULATIONS)
def test_a_manipulated_work_dir_is_rejected_or_repaired(tmp_path, images, name):
    own = tmp_path / "own"
    shutil.copytree(images / "own", own)
    MANIPULATIONS[name](own, images / "other")
    try:
        found = collect(images / "own.npy", own)
    except FrechetError:
        return
    assert_same_statistics(found, collect(images / "own.npy"))


def test_the_table_is_long_enough():
    assert len(MANIPULATIONS) >= 29


@pytest.mark.slow
def test_an_intact_work_dir_is_read_and_not_computed(tmp_path, images, extracted_counts):
    shutil.copytree(images / "own", tmp_path / "own")
    assert_same_statistics(collect(images / "own.npy", tmp_path / "own"), collect(images / "own.npy"))
    assert extracted_counts == [0, COUNT]

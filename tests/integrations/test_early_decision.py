"""Evaluations in training loops that stop when the difference to an earlier score is certain."""

import json
from dataclasses import replace

import pytest
import torch
from forks import run_ranks

import frechet
from frechet.errors import MismatchError, RequestError, TooFewImagesError

pytest.importorskip("torchmetrics")
from frechet.integrations.torchmetrics import FID

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")


def draw(n, brightest, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, brightest, (n, 3, 8, 8), dtype=torch.uint8, generator=generator)


@pytest.fixture
def fid(toy_options):
    reference = frechet.collect(draw(600, 256).permute(0, 2, 3, 1).numpy(), **toy_options)
    return FID(reference, **toy_options)


def score(fid, brightest, n=400, seed=1):
    fid.update(draw(n, brightest, seed))
    found = fid.score()
    fid.reset()
    return found


def count_until_decided(fid, previous, brightest, **options):
    """Return how many images in batches of 20 it takes, or None if 2,000 are not enough."""
    for n in range(20, 2001, 20):
        fid.update(draw(20, brightest, seed=100 + n))
        if fid.is_decided(against=previous, max_images=2000, **options):
            return n
    return None


@pytest.mark.slow
def test_a_large_difference_is_decided_at_the_first_look_and_a_small_one_later(fid):
    previous = score(fid, 200)
    assert count_until_decided(fid, previous, 120) == 60  # the first look is due after 50 images
    fid.reset()
    assert count_until_decided(fid, previous, 198) > 200


@pytest.mark.slow
def test_equal_models_are_not_decided(fid):
    assert count_until_decided(fid, score(fid, 200), 200) is None


@pytest.mark.slow
def test_an_answer_stands_until_reset(fid):
    previous = score(fid, 200)
    fid.update(draw(60, 120))
    assert fid.is_decided(against=previous, max_images=2000)
    assert fid.is_decided(against=previous, max_images=2000)
    fid.reset()
    assert not fid.is_decided(against=previous, max_images=2000)


@pytest.mark.slow
def test_only_looks_are_computed(fid, monkeypatch):
    """50, 71, 101, ... 1,600: with 20 images at a time, at most one per look of 16."""
    calls = []
    monkeypatch.setattr(
        FID, "_estimate", lambda self, against, original=FID._estimate: calls.append(1) or original(self, against)
    )
    previous = score(fid, 200)
    for n in range(20, 401, 20):
        fid.update(draw(20, 200, seed=n))
        fid.is_decided(against=previous, max_images=1600)
    assert 5 <= len(calls) <= 8


@pytest.mark.slow
def test_the_error_of_the_reference_cancels(fid, toy_options):
    """The same comparison with the distances to the reference as it is gives the same answer."""
    previous = score(fid, 200)
    assert previous.reference_is == "sample"
    bytes_of_images = draw(400, 200, seed=1).permute(0, 2, 3, 1).numpy()
    fixed = frechet.fd(bytes_of_images, fid.reference, reference_is="fixed", **toy_options)
    counts = []
    for against in (previous, fixed):
        counts.append(count_until_decided(fid, against, 198))
        fid.reset()
    assert None not in counts
    assert max(counts) <= 2 * min(counts)


@pytest.mark.slow
def test_other_features_references_and_invalid_arguments_are_rejected(fid, toy_options):
    previous = score(fid, 200)
    fid.update(draw(60, 120))
    for against in (0.5, replace(previous, variance_components=None), replace(previous, sampling_design="400 pairs")):
        with pytest.raises(RequestError, match="against"):
            fid.is_decided(against=against)
    for alpha in (0, 1, "5%"):
        with pytest.raises(RequestError, match="alpha"):
            fid.is_decided(against=previous, alpha=alpha)
    with pytest.raises(TooFewImagesError, match="max_images is 10"):
        fid.is_decided(against=previous, max_images=10)
    with pytest.raises(MismatchError, match="preprocessing"):
        fid.is_decided(against=replace(previous, provenance={**previous.provenance, "preprocessing": "clean"}))
    other = FID(frechet.collect(draw(600, 100).permute(0, 2, 3, 1).numpy(), **toy_options), **toy_options)
    with pytest.raises(MismatchError, match=r"although both are named images in memory; .* same reference"):
        other.is_decided(against=previous)  # at the first call, before any image
    other.reference = replace(other.reference, label="others")
    with pytest.raises(MismatchError, match="images in memory, but this metric compares with others"):
        other.is_decided(against=previous)
    with pytest.raises(RequestError, match=r"max_images is 50000\.0; expected a whole number"):
        fid.is_decided(against=previous, max_images=5e4)


RANKS = """
import json, sys, torch
import torch.distributed as dist
import frechet
rank, store, weights = int(sys.argv[1]), *sys.argv[2:]
from toy_extractor import TOY_EXTRACTOR
from frechet.features.registry import register_extractor
from frechet.integrations.torchmetrics import FID
register_extractor("toy-name", TOY_EXTRACTOR)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
fid = FID(f"{store}.npz", extractor="toy-name", weights=weights)
def draw(n, brightest, seed):
    return torch.randint(0, brightest, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
fid.update(draw(200, 200, rank))
previous = fid.score()
answers = []
for brightest in (200, 120):
    fid.reset()
    for step in range(6):
        fid.update(draw(20 if rank == 0 else 5, brightest, 10 + 10 * step + rank))
        answers.append(fid.is_decided(against=previous, max_images=2000))
print(json.dumps(answers))
dist.destroy_process_group()
"""


@pytest.mark.subprocess
def test_all_ranks_count_together_and_agree(fid, toy_options, tmp_path):
    """25 images per step on both ranks: the first look, after 50, is due at the second step."""
    fid.reference.save(tmp_path / "store.npz")
    with run_ranks(tmp_path, RANKS, tmp_path / "store", toy_options["weights"]) as ranks:
        answers = [json.loads(rank.finish().splitlines()[-1]) for rank in ranks]
    assert answers[0] == answers[1] == [False] * 7 + [True] * 5


def test_an_unrelated_name_of_the_script_does_not_change_the_comparison(monkeypatch):
    def colours(images):
        return images.mean((2, 3))

    colours.input_size = 8
    reference = frechet.collect(draw(60, 256).permute(0, 2, 3, 1).numpy(), extractor=colours)
    previous = score(FID(reference, extractor=colours), 200)
    monkeypatch.setitem(globals(), "mean", torch.tensor(0.123))
    metric = FID(reference, extractor=colours)
    metric.update(draw(60, 120))
    assert metric.is_decided(against=previous, max_images=2000)


def test_the_message_about_another_function_names_what_differs():
    def make(factor):
        def colours(images):
            return factor * images.mean((2, 3))

        colours.input_size = 8
        return colours

    reference = [
        frechet.collect(draw(60, 256).permute(0, 2, 3, 1).numpy(), extractor=make(each)) for each in (1.0, 5.0)
    ]
    previous = score(FID(reference[0], extractor=make(1.0)), 200)
    metric = FID(reference[1], extractor=make(5.0))
    metric.update(draw(60, 120))
    with pytest.raises(MismatchError, match=r"factor of .*colours is 1\.0 and 5\.0"):
        metric.is_decided(against=previous, max_images=2000)

"""States of metrics in checkpoints: which metric and which rank may load them."""

import pytest
import torch
from forks import run_ranks

import frechet
from frechet.errors import MismatchError
from frechet.features import identity_parts

pytest.importorskip("torchmetrics")
from frechet.integrations import image_metric
from frechet.integrations.torchmetrics import FID, KID


def draw(n, seed=0):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def make_colours(factor, dims=3):
    def colours(images):
        return factor * images.mean((2, 3)).repeat(1, dims // 3)

    colours.input_size = 8
    return colours


def make_metric(**options):
    metric = FID(**{"extractor": make_colours(1.0), **options})
    metric.persistent(True)
    return metric


@pytest.fixture
def saved():
    metric = make_metric()
    metric.update(draw(9))
    metric.update(draw(7, 1), real=True)
    return metric.state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value_range": (-1, 1)}, r"value_range \[0.0, 1.0\] \(state\) and \[-1.0, 1.0\] \(this metric\)"),
        ({"rounding": "truncate"}, "rounding round .* truncate"),
        ({"preprocessing": "pytorch-fid"}, "preprocessing imagenet .* pytorch-fid"),
        ({"extractor": make_colours(5.0)}, r"weights .* factor of .*colours is 1\.0 and 5\.0"),
        ({"extractor": make_colours(1.0, 6)}, r"layer 3 .* and 6 .*; weights "),
    ],
)
def test_a_state_of_another_metric_is_rejected(saved, monkeypatch, options, message):
    monkeypatch.setattr(identity_parts, "_PARTS", {})  # as in another process
    with pytest.raises(MismatchError, match=message):
        make_metric(**options).load_state_dict(saved)


def test_a_metric_with_a_loaded_state_has_images(saved, recwarn):
    metric = make_metric()
    metric.load_state_dict(saved)
    assert float(metric.compute()) > 0
    assert not [each for each in recwarn if "called before" in str(each.message)]


def test_a_state_with_other_images_is_rejected(saved):
    images = (255 * draw(9)).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    reference = frechet.collect(images, extractor=make_colours(1.0))
    with pytest.raises(
        MismatchError, match=r"images generated .* real .* \(state\) and generated \(3 features\): a sample \("
    ):
        make_metric(reference=reference).load_state_dict(saved)
    kernel = KID(extractor=make_colours(1.0))
    with pytest.raises(MismatchError, match=r"a sample.* and .*all rows"):
        kernel.load_state_dict(saved)


def test_a_state_of_the_same_metric_is_loaded(saved):
    expected = make_metric()
    expected.update(draw(9))
    expected.update(draw(7, 1), real=True)
    metric = make_metric(reset_real_features=False)
    metric.update(draw(8, 2))
    metric.update(draw(8, 3), real=True)
    metric.compute()  # torchmetrics keeps the value
    assert metric.load_state_dict(dict(saved)) == torch.nn.Module().load_state_dict({})
    assert float(metric.compute()) == float(expected.compute())


def test_a_state_within_a_model_is_verified(saved):
    model = torch.nn.ModuleDict({"layer": torch.nn.Linear(2, 2), "fid": make_metric(rounding="truncate")})
    state = {**model["layer"].state_dict(prefix="layer."), **{f"fid.{name}": each for name, each in saved.items()}}
    with pytest.raises(MismatchError, match="rounding"):
        model.load_state_dict(state)
    model["fid"] = make_metric()
    model.load_state_dict(state)
    assert int(model["fid"].generated_n) == 9


def test_another_metric_is_not_merged():
    one, two = make_metric(), make_metric(extractor=make_colours(5.0))
    for states in (two, two.metric_state):
        with pytest.raises(MismatchError, match="factor"):
            one.merge_state(states)


@pytest.mark.parametrize(
    ("saved_by", "loaded_by", "message"),
    [
        ((0, 2), (0, 2), None),
        ((1, 2), (1, 2), None),
        ((0, 1), (0, 2), None),  # the images of all ranks, on one of them
        ((0, 2), (1, 2), r"rank 0 of 2, but this process is rank 1 of 2.* every rank .* reset\(\)"),
        ((0, 2), (0, 4), "rank 0 of 2"),
        ((0, 2), (0, 1), "rank 0 of 2"),
        ((0, 1), (1, 2), "all images.* rank 0 only"),
    ],
)
def test_each_rank_loads_its_own_images(monkeypatch, saved_by, loaded_by, message):
    metric, empty = make_metric(), make_metric()
    metric.update(draw(9))
    monkeypatch.setattr(image_metric, "get_rank", lambda: saved_by)
    states = [each.state_dict() for each in (metric, empty)]
    monkeypatch.setattr(image_metric, "get_rank", lambda: loaded_by)
    make_metric().load_state_dict(states[1])  # without images, as rank 0 saves it between two evaluations
    if message is None:
        make_metric().load_state_dict(states[0])
    else:
        with pytest.raises(MismatchError, match=message):
            make_metric().load_state_dict(states[0])


RANKS = """
import sys, torch, torch.distributed as dist
from frechet.errors import MismatchError
from frechet.integrations.torchmetrics import FID
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)

def colours(images):
    return images.mean((2, 3))

colours.input_size = 8

def make_metric():
    metric = FID(extractor=colours)
    metric.persistent(True)
    return metric

metric = make_metric()
images = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
metric.update(images[:12].split([4, 8])[rank])
metric.update(images[12:].split([5, 3])[rank], real=True)
torch.save(metric.state_dict(), f"{folder}/{rank}.pt")
with metric.sync_context():
    torch.save(metric.state_dict(), f"{folder}/all-{rank}.pt")
dist.barrier()
load = lambda name: torch.load(f"{folder}/{name}.pt", weights_only=True)
own, other, all_images = make_metric(), make_metric(), make_metric()
own.load_state_dict(load(rank))
try:
    other.load_state_dict(load(1 - rank))
    refused = False
except MismatchError:
    refused = True
if rank == 0:
    all_images.load_state_dict(load("all-0"))
print(refused, float(metric.compute()) == float(own.compute()) == float(all_images.compute()))
dist.destroy_process_group()
"""


@pytest.mark.subprocess
def test_two_ranks_load_their_own_states(tmp_path):
    with run_ranks(tmp_path, RANKS, tmp_path) as ranks:
        outputs = [rank.finish() for rank in ranks]
    assert [out.splitlines()[-1] for out in outputs] == ["True True"] * 2

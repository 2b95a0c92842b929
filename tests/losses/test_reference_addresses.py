"""References of losses and training-loop metrics by name and URL, from a server in the test."""

import re

import numpy as np
import pytest
from jax_toy import MIX, TOY, noise
from statistics_server import npz

import frechet.jax as fj
from frechet.errors import MismatchError, RequestError
from frechet.integrations.torchmetrics import FID
from frechet.losses.jax_reference import make_reference
from frechet.losses.torch import FDLoss, FIDLoss
from frechet.protocols.references_table import REFERENCES, Reference

pytestmark = pytest.mark.filterwarnings("ignore:.*no published sha256")

MEAN, COVARIANCE = np.arange(5.0), np.diag(np.arange(1.0, 6.0))


@pytest.fixture(params=["name", "url"])
def address(request, server, monkeypatch):
    """The address of statistics of the toy extractor at the server."""
    server.content = npz(mu=MEAN, sigma=COVARIANCE)
    row = Reference(title="toy", url=server.url(), dims=5, extractor="toy-name", preprocessing="pytorch-fid", n=500)
    monkeypatch.setitem(REFERENCES, "toy", row)
    return "ref:toy" if request.param == "name" else server.url()


@pytest.mark.parametrize(
    "get_gaussian",
    [
        lambda address, options: FIDLoss(address, **options).reference_mean.numpy(),
        lambda address, options: (
            FDLoss(address, extractors=options["extractor"], weights=options["weights"], population=4)
            .populations[0]
            .reference_mean.numpy()
        ),
        lambda address, options: FID(address, **options).reference.mean,
        lambda address, options: np.asarray(make_reference(address, **options).gaussian.mean),
    ],
    ids=["FIDLoss", "FDLoss", "FID", "jax"],
)
def test_references_are_found_by_name_and_url(address, toy_options, get_gaussian):
    np.testing.assert_array_equal(get_gaussian(address, toy_options), MEAN)


@pytest.mark.slow
def test_the_distance_in_jax_takes_a_name_or_url(server):
    """The mean of zeros and the identity: |μ|² + tr (Σ + 1 - 2 Σ^½) by the eigenvalues of Σ."""
    server.content = npz(mu=np.zeros(3), sigma=np.eye(3))
    stats = fj.collect([noise(40)], TOY, MIX)
    own = fj.to_statistics(stats)
    roots = np.sqrt(np.linalg.eigvalsh(own.covariance))
    expected = own.mean @ own.mean + ((roots - 1) ** 2).sum()
    assert float(fj.fid(stats, server.url())) == pytest.approx(expected, rel=1e-9)


def test_what_was_recorded_is_shown(address, toy_options):
    if not address.startswith("ref:"):
        pytest.skip("a URL has no record")
    with pytest.warns(UserWarning, match=r"no published sha256"):
        FIDLoss(address, **toy_options)


def test_invalid_addresses_are_rejected_before_the_network_is_loaded(address, toy_options):
    with pytest.raises(RequestError, match=r"'?toi'?.*toy"):
        FIDLoss("ref:toi", **toy_options)
    if address.startswith("ref:"):
        with pytest.raises(MismatchError, match=re.escape("preprocessing clean (generated) and pytorch-fid")):
            FIDLoss(address, extractor="toy-name", weights="missing.pth", preprocessing="clean")


@pytest.mark.parametrize(
    "address", ["s3://bucket/ref.npz", "https://example.org/ref", "https://example.org/images.zip"]
)
def test_urls_of_another_form_are_rejected_by_their_form(address, toy_options):
    with pytest.raises(RequestError, match=r"is not a URL of statistics; expected https:// or hf://"):
        FIDLoss(address, **toy_options)


@pytest.mark.parametrize("create", [FIDLoss, FDLoss, FID, make_reference])
@pytest.mark.parametrize("name", ["own.npz", "own", "own.npz/b.npz"])
def test_a_path_that_does_not_exist_is_not_called_damaged(tmp_path, create, name):
    (tmp_path / "owl.npz").write_bytes(npz())
    with pytest.raises(RequestError) as caught:
        create(f"{tmp_path}/{name}")
    assert str(caught.value) == f"no such file: {tmp_path}/{name}. Did you mean {tmp_path}/owl.npz?"

"""The image metrics of torchmetrics by our classes: its arguments and the names of its states, for `peer_tests.py`.

An adapter translates names. It neither computes nor checks values, and the wording of errors is not compared.
"""

import importlib
import sys
import types
from functools import wraps

import pytest
import torch

from frechet.integrations import torchmetrics as ours

STATES = {  # torchmetrics' name -> ours
    "real_features_num_samples": "real_n",
    "real_features_sum": "real_total",
    "real_features_cov_sum": "real_outer",
    "real_features": "real_rows",
    "fake_features_num_samples": "generated_n",
    "fake_features_sum": "generated_total",
    "fake_features_cov_sum": "generated_outer",
    "fake_features": "generated_rows",
}


def translate_arguments(feature=2048, normalize=False, antialias=True, **options):  # noqa: ARG001, both kinds of images are accepted
    """Return our arguments; what we do not have is passed on, and rejected by our class.

    Valid numbers of subsets of KID are left out, because we use all pairs of images.
    """
    options = {key: value for key, value in options.items() if key not in ("subsets", "subset_size") or value < 1}
    if isinstance(feature, torch.nn.Module):
        feature.input_size = 299
        return {"extractor": feature, **options}
    return {"dims": feature, "preprocessing": "torchmetrics" if antialias else "tensorflow", **options}


class Translated:
    """A mixin for one of our metrics, with torchmetrics' arguments and states."""

    def __init__(self, *args, **options):
        super().__init__(**translate_arguments(*args, **options))

    def __getattr__(self, name):
        if name in STATES:
            return getattr(self, STATES[name])
        return super().__getattr__(name)


class FrechetInceptionDistance(Translated, ours.FID):
    """FID."""


class KernelInceptionDistance(Translated, ours.KID):
    """KID; `compute` returns two numbers, of which ours are the value and its standard error."""

    def compute(self):
        score = self.score()
        return torch.tensor(score.value), torch.tensor(score.standard_error)


class MemorizationInformedFrechetInceptionDistance(Translated, ours.MiFID):
    """MiFID."""


class InceptionScore(ours.InceptionScore):
    """Inception Score; `compute` returns the mean and the standard deviation of the splits."""

    def __init__(self, normalize=False, **options):
        super().__init__(**options)

    def compute(self):
        score = self.score()
        return torch.tensor(score.value), torch.tensor(score.std)


CLASSES = {
    "fid": FrechetInceptionDistance,
    "kid": KernelInceptionDistance,
    "inception": InceptionScore,
    "mifid": MemorizationInformedFrechetInceptionDistance,
}
FILES = [f"tests/unittests/image/test_{name}.py" for name in CLASSES]

REASONS = {  # test, without the file and the parameters -> why it fails by intention
    "test_no_train": "inspects the attribute `inception`; our network is no submodule, so that train() and checkpoints do not reach it",
    "test_dtype_transfer_to_submodule": "inspects the attribute `inception`; set_dtype() leaves our metrics in float64",
    "test_normalize_arg": "expects that floating-point images are rejected without normalize=True; we accept them in value_range",
    "test_normalize_arg_false": "expects that floating-point images are rejected without normalize=True; we accept them in value_range",
    "test_not_enough_samples": "expects RuntimeError; ours is TooFewImagesError, a ValueError",
    "test_kid_raises_errors_and_warnings": "expects a warning about memory, and the error that 1000 images per subset are missing; we use "
    "all pairs of images",
    "test_is_raises_errors_and_warnings": "expects a warning about memory; our documentation states what is kept",
    "test_mifid_custom_encoder_with_normalize": "uses grey images; our metrics take images with three channels",
}


def install():
    """Let torchmetrics' test files find our classes, and the helpers of its test suite that they use."""
    for name, each in CLASSES.items():
        setattr(importlib.import_module(f"torchmetrics.image.{name}"), each.__name__, each)
    # the tests skip what needs torch-fidelity, which our network does not
    importlib.import_module("torchmetrics.utilities.imports")._TORCH_FIDELITY_AVAILABLE = True
    package, helpers = types.ModuleType("unittests"), types.ModuleType("unittests._helpers")
    package._reference_cachier = lambda function: function
    helpers.seed_all = torch.manual_seed
    sys.modules |= {"unittests": package, "unittests._helpers": helpers}
    pytest.raises, pytest.warns = (_without_wording(each) for each in (pytest.raises, pytest.warns))


def _without_wording(function):
    @wraps(function)
    def call(*args, match=None, **options):  # noqa: ARG001
        return function(*args, **options)

    return call

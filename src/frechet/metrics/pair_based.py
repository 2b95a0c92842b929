"""Rows of the table that are means over pairs of images: an image and its reconstruction, compared pixel by pixel."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from frechet.distances.image_pairs import MIN_SSIM_SIZE, peak_signal_noise_ratio, structural_similarity
from frechet.errors import RequestError
from frechet.features.spec import FeatureSpec
from frechet.metrics.base import Metric, MetricResult, PairMeasure

_PIXELS = FeatureSpec(extractor="pixels", layer="RGB", is_official=True, preprocessing="none", precision="float64")


def load_psnr(device: str) -> PairMeasure:  # noqa: ARG001, computed with NumPy
    """Return the peak signal-to-noise ratio of a pair."""
    return PairMeasure(measure=_map_pairs(peak_signal_noise_ratio), spec=_PIXELS, label="PSNR")


def load_ssim(device: str) -> PairMeasure:  # noqa: ARG001, computed with NumPy
    """Return the structural similarity of a pair."""
    return PairMeasure(measure=_map_pairs(structural_similarity), spec=_PIXELS, label="SSIM", min_size=MIN_SSIM_SIZE)


def load_lpips(device: str, *, network: str) -> PairMeasure:
    """Return LPIPS of a pair by a network, "alex" or "vgg".

    Raises:
        WeightsError: the weights of the network are not on this machine.
        RequestError: PyTorch or torchmetrics is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise RequestError("lpips needs PyTorch, which is not installed; run pip install 'frechet[torchmetrics]'")
    from frechet.backends.lpips import Lpips
    from frechet.networks.lpips import NETWORKS, load_lpips_weights

    weights, title = load_lpips_weights(network), NETWORKS[network].title
    spec = FeatureSpec(
        extractor=f"lpips-{title.lower()}",
        layer="convolutions",
        weights=weights.digest,
        is_official=weights.is_official,
        preprocessing="none",
        precision="float32",
    )
    qualification = "" if weights.is_official else f" (weights {weights.digest[:8]}, not the official ones)"
    return PairMeasure(
        measure=Lpips(network, weights, device),
        spec=spec,
        label=f"LPIPS-{title}{qualification}",
        min_size=NETWORKS[network].min_size,
    )


def compute_mean(values: np.ndarray) -> MetricResult:
    """Return the mean of the values (n,) of all pairs."""
    return MetricResult(value=float(values.mean()))


def compute_psnr(values: np.ndarray) -> MetricResult:
    """Return the mean of the ratios (n,) of all pairs in dB, and the ratio of the mean squared error of all pairs.

    Raises:
        RequestError: a pair of equal images, whose ratio is infinite.
    """
    is_equal = np.isinf(values)
    if is_equal.any():
        raise RequestError(
            f"psnr is infinite for {int(is_equal.sum()):,} of {len(values):,} pairs, whose images are equal (the first: pair "
            f"{int(is_equal.argmax())}, counted from 0); expected reconstructions that differ from their images. Leave these pairs "
            "or psnr out, or check that the inputs are not the same images."
        )
    pooled = -10 * np.log10(np.mean(10 ** (-values / 10)))
    return MetricResult(value=float(values.mean()), terms={"of_mean_squared_error": float(pooled)})


def compute_lpips(values: np.ndarray, *, network: str) -> MetricResult:  # noqa: ARG001, the values depend on it
    """Return the mean of the distances (n,) of all pairs."""
    return compute_mean(values)


def _map_pairs(
    function: Callable[[np.ndarray, np.ndarray], float],
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda generated, reference: np.array([function(*pair) for pair in zip(generated, reference, strict=True)])


ROWS = {
    "psnr": Metric(
        title="PSNR",
        summary="mean peak signal-to-noise ratio of images and their reconstructions in dB",
        paper="Huynh-Thu & Ghanbari 2008, doi:10.1049/el:20080522",
        lower_is_better=False,
        compute=compute_psnr,
        measures="fidelity",
        images="2 pairs (50,000)",
        load_pair_measure=load_psnr,
        full_feature_inputs=(),
    ),
    "ssim": Metric(
        title="SSIM",
        summary="mean structural similarity of images and their reconstructions",
        paper="Wang et al. 2004, doi:10.1109/TIP.2003.819861",
        lower_is_better=False,
        compute=compute_mean,
        measures="fidelity",
        images="2 pairs (50,000)",
        load_pair_measure=load_ssim,
        full_feature_inputs=(),
    ),
    "lpips": Metric(
        title="LPIPS",
        summary="mean perceptual distance of images and their reconstructions, by AlexNet",
        paper="Zhang et al. 2018, arXiv:1801.03924",
        lower_is_better=True,
        compute=compute_lpips,
        settings={"network": "alex"},
        presets={"vgg": {"network": "vgg"}},
        measures="fidelity",
        images="2 pairs (50,000)",
        load_pair_measure=load_lpips,
        full_feature_inputs=(),
    ),
}

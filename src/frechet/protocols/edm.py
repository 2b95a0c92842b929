"""EDM and EDM2."""

from __future__ import annotations

from frechet.protocols.protocol import Measurement, Protocol, Published

_EDM = "Karras et al. 2022, arXiv:2206.00364; NVlabs/edm, fid.py"
_EDM2 = "Karras et al. 2024, arXiv:2312.02696; NVlabs/edm2, calculate_metrics.py"
_SEEDS = "seeds 0 to 49,999; papers state the smallest of three runs (seeds to 99,999 and to 149,999)"


def _edm(name: str, data: str, size: int, published: tuple[Published, ...] = ()) -> Protocol:
    return Protocol(
        title=f"FID on {data} at {size} pixels, as EDM computes it",
        source=_EDM,
        measurements=(Measurement(metrics=("fid",), preprocessing="tensorflow", reference=name),),
        n_generated=50_000,
        generated_size=size,
        reference_title=f"NVIDIA's reference statistics of {data}",
        published=published,
        note=_SEEDS,
    )


def _edm2(size: int, *measurements: Measurement) -> Protocol:
    titles = ["FID" if each.extractor == "inception" else "FD of DINOv2" for each in measurements]
    return Protocol(
        title=f"{' and '.join(titles)} on ImageNet at {size} pixels, as EDM2 computes {'them' if len(titles) > 1 else 'it'}",
        source=_EDM2,
        measurements=measurements,
        n_generated=50_000,
        generated_size=size,
        reference_title=f"img{size}.pkl",
        note=_SEEDS,
    )


PROTOCOLS = {
    "edm-cifar10-32": _edm(
        "edm-cifar10-32",
        "CIFAR-10",
        32,
        (Published(model="EDM, class-conditional", values={"fid": 1.79}, source=_EDM),),
    ),
    "edm-ffhq-64": _edm("edm-ffhq-64", "FFHQ", 64),
    "edm-afhqv2-64": _edm("edm-afhqv2-64", "AFHQv2", 64),
    "edm-imagenet-64": _edm(
        "edm-imagenet-64", "ImageNet", 64, (Published(model="EDM", values={"fid": 1.36}, source=_EDM),)
    ),
    "edm2-img64": _edm2(64, Measurement(metrics=("fid",), preprocessing="tensorflow", reference="edm2-img64")),
    "edm2-img512": _edm2(
        512,
        Measurement(metrics=("fid",), preprocessing="tensorflow", reference="edm2-img512"),
        Measurement(
            metrics=("fd-dinov2",),
            extractor="dinov2-vitl14",
            preprocessing="imagenet-unclipped",
            reference="edm2-img512-dinov2",
        ),
    ),
}

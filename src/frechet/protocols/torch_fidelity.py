"""FID and IS by torch-fidelity or NVIDIA's JAX port against statistics files: MAR, JiT, xAR, MeanFlow and iMF."""

from __future__ import annotations

from frechet.protocols.protocol import Measurement, Protocol, Published

_FORK = "the fork of torch-fidelity by LTH14, which takes a statistics file"
_IMF = "README of Lyy-iiis/imeanflow"


def _torch_fidelity(
    reference: str, size: int, source: str, file: str, published: tuple[Published, ...] = ()
) -> Protocol:
    return Protocol(
        title=f"FID and IS of class-conditional ImageNet at {size} pixels, by torch-fidelity against {file}",
        source=f"{source}; {_FORK}",
        measurements=(
            Measurement(metrics=("fid", "is@torch-fidelity"), preprocessing="tensorflow", reference=reference),
        ),
        n_generated=50_000,
        generated_size=size,
        reference_title=file,
        images_per_class=50,
        published=published,
    )


PROTOCOLS = {
    "mar-imagenet-256": _torch_fidelity("mar-imagenet-256", 256, "LTH14/mar", "adm_in256_stats.npz"),
    "jit-imagenet-256": _torch_fidelity(
        "jit-imagenet-256",
        256,
        "LTH14/JiT",
        "jit_in256_stats.npz",
        (
            Published(model="iMF-B", values={"fid": (3.37, 3.39), "is@torch-fidelity": 256.0}, source=_IMF),
            Published(model="iMF-XL", values={"fid": 1.70}, source=_IMF),
        ),
    ),
    "jit-imagenet-512": _torch_fidelity("jit-imagenet-512", 512, "LTH14/JiT", "jit_in512_stats.npz"),
    "meanflow-imagenet-256": Protocol(
        title="FID and IS of class-conditional ImageNet at 256 pixels, by MeanFlow's code in JAX",
        source="Geng et al. 2025, arXiv:2505.13447; Lyy-iiis/imeanflow, utils/jax_fid",
        measurements=(
            Measurement(metrics=("fid", "is@stylegan3"), preprocessing="tensorflow", reference="meanflow-imagenet-256"),
        ),
        n_generated=50_000,
        generated_size=256,
        reference_title="imagenet_256_fid_stats.npz",
        rounding="truncate",
        published=(
            Published(model="iMF-B", values={"fid": 3.37}, source=_IMF),
            Published(model="iMF-XL", values={"fid": 1.70}, source=_IMF),
        ),
        unverified=("the code computes log(p + 1e-10) in the Inception Score, and frechet log p",),
        note="IS of 10 splits in the order of the images",
    ),
}

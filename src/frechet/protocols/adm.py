"""ADM's evaluation suite: the protocol of DiT, SiT, REPA, VAR, LlamaGen, RAE and LightningDiT."""

from __future__ import annotations

from frechet.protocols.protocol import Measurement, Protocol, Published

_METRICS = ("fid", "sfid", "is@adm", "precision@adm", "recall@adm")
_SOURCE = "Dhariwal & Nichol 2021, arXiv:2105.05233; evaluations/evaluator.py of openai/guided-diffusion"
_README = "README of openai/guided-diffusion"


def _adm(data: str, name: str, size: int, file: str, published: tuple[Published, ...] = ()) -> Protocol:
    return Protocol(
        title=f"ADM's five numbers on {data} at {size} pixels",
        source=_SOURCE,
        measurements=(Measurement(metrics=_METRICS, preprocessing="tensorflow", reference=name),),
        n_generated=50_000,
        generated_size=size,
        reference_title=f"{file}.npz",
        order="unsorted",
        published=published,
        note="FID and sFID compare with the statistics of all training images, precision and recall with 10,000 of them (k = 3)",
    )


PROTOCOLS = {
    "adm-imagenet-64": _adm(
        "ImageNet",
        "adm-imagenet-64",
        64,
        "VIRTUAL_imagenet64_labeled",
        (
            Published(model="ADM", values={"fid": 2.61}, source="guided-diffusion, issue 75"),
            Published(model="ADM with dropout", values={"fid": 2.07}, source="guided-diffusion, issue 75"),
        ),
    ),
    "adm-imagenet-128": _adm(
        "ImageNet",
        "adm-imagenet-128",
        128,
        "VIRTUAL_imagenet128_labeled",
        (
            Published(
                model="ADM-G",
                values={
                    "is@adm": 141.48,
                    "fid": 2.9733,
                    "sfid": 5.0946,
                    "precision@adm": 0.7814,
                    "recall@adm": 0.5929,
                },
                source=_README,
            ),
        ),
    ),
    "adm-imagenet-256": _adm(
        "ImageNet",
        "adm-imagenet-256",
        256,
        "VIRTUAL_imagenet256_labeled",
        (
            Published(
                model="ADM-G, ADM-U (admnet_guided_upsampled)",
                values={
                    "is@adm": 215.837,
                    "fid": 3.9426,
                    "sfid": 6.1404,
                    "precision@adm": 0.8265,
                    "recall@adm": 0.5309,
                },
                source=_README,
            ),
        ),
    ),
    "adm-imagenet-512": _adm("ImageNet", "adm-imagenet-512", 512, "VIRTUAL_imagenet512"),
    "adm-lsun-bedroom": _adm("LSUN bedroom", "adm-lsun-bedroom", 256, "VIRTUAL_lsun_bedroom256"),
    "adm-lsun-cat": _adm("LSUN cat", "adm-lsun-cat", 256, "VIRTUAL_lsun_cat256"),
    "adm-lsun-horse": _adm("LSUN horse", "adm-lsun-horse", 256, "VIRTUAL_lsun_horse256"),
}

"""Text-to-image benchmarks: COCO-30k in its two forms, MLPerf and MJHQ-30K."""

from __future__ import annotations

from frechet.protocols.protocol import Measurement, Protocol, Published

PROTOCOLS = {
    "coco-30k-gigagan": Protocol(
        title="Zero-shot FID on 30,000 captions of COCO val2014, as GigaGAN and DMD2 compute it",
        source="Kang et al. 2023, arXiv:2303.05511; Yin et al. 2024, arXiv:2405.14867",
        measurements=(Measurement(metrics=("fid",), preprocessing="clean"),),
        n_generated=30_000,
        n_reference=40_504,
        reference_title="COCO val2014",
        generated_crop="long-edge",
        reference_crop="long-edge",
        crop_size=256,
        not_computed=("CLIP score (ViT-g/14)", "patch FID (central 299 pixels)"),
        published=(Published(model="DMD2, SD 1.5", values={"fid": 8.35}, source="arXiv:2405.14867"),),
        unverified=("all 40,504 images of val2014 are the reference",),
    ),
    "coco-30k-t2ibench": Protocol(
        title="Zero-shot FID on 30,000 captions of COCO val2014, as text2image-benchmark computes it",
        source="boomb0om/text2image-benchmark 0.0.1",
        measurements=(Measurement(metrics=("fid",), preprocessing="quantised-bicubic", reference="coco-30k-t2ibench"),),
        n_generated=30_000,
        reference_title="MS-COCO_val2014_fid_stats.npz",
        unverified=("the pixels are normalised by (x - 128)/128",),
    ),
    "mlperf-sdxl": Protocol(
        title="FID of MLPerf Inference's SDXL task",
        source="mlcommons/inference, text_to_image",
        measurements=(Measurement(metrics=("fid",), preprocessing="pytorch-fid", reference="mlperf-sdxl"),),
        n_generated=5_000,
        generated_size=1024,
        reference_title="val2014.npz",
        not_computed=("CLIP score (accepted from 31.68631873 to 31.81331801)",),
        accepted={"fid": (23.01085758, 23.95007626)},
    ),
    "mlperf-sd2": Protocol(
        title="FID of MLPerf Training's Stable Diffusion v2 task (retired)",
        source="mlcommons/training, stable_diffusion",
        measurements=(Measurement(metrics=("fid",), preprocessing="pytorch-fid"),),
        n_generated=30_000,
        generated_size=512,
        reference_title="val2014_512x512_30k_stats.npz",
        not_computed=("CLIP score (accepted from 0.15)",),
        accepted={"fid": (0.0, 90.0)},
        note="seed 2023; pass val2014_512x512_30k_stats.npz as the reference",
    ),
    "mjhq-30k": Protocol(
        title="FID and FID per category on MJHQ-30K at 1024 pixels",
        source="playgroundai/MJHQ-30K",
        measurements=(Measurement(metrics=("fid",), preprocessing="clean"),),
        n_generated=30_000,
        generated_size=1024,
        n_reference=30_000,
        reference_title="MJHQ-30K",
        alternatives={"preprocessing": ("pytorch-fid",)},
        per_class=True,
        published=(
            Published(model="SDXL with refiner", values={"fid": 9.55}, source="README of MJHQ-30K"),
            Published(model="Playground v2", values={"fid": 7.07}, source="README of MJHQ-30K"),
            Published(model="Playground v2.5", values={"fid": 4.48}, source="README of MJHQ-30K"),
        ),
        unverified=(
            "the README does not state the implementation: clean-fid (HART) and pytorch-fid (Sana) are in use",
        ),
        note="both inputs have one folder per category",
    ),
}

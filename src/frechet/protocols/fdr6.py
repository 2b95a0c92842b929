"""FDr-6: Fréchet distances of six encoders, each divided by that of ImageNet's validation images."""

from __future__ import annotations

from frechet.protocols.protocol import Measurement, Protocol, Published


def _encoder(metric: str, extractor: str, preprocessing: str, reference: str) -> Measurement:
    return Measurement(
        metrics=(metric,),
        extractor=extractor,
        preprocessing=preprocessing,
        reference=f"fdr6-imagenet-256-{reference}",
        precision="bfloat16",
    )


PROTOCOLS = {
    "fdr6-imagenet-256": Protocol(
        title="FDr-6 on ImageNet at 256 pixels: the mean of six Fréchet distances, each divided by that of the validation images",
        source="arXiv:2604.28190; jjiaweiyang/FD-Loss",
        measurements=(
            Measurement(metrics=("fid",), preprocessing="fd-loss", reference="fdr6-imagenet-256-inception"),
            _encoder("fd-convnextv2", "convnextv2-b", "imagenet-unclipped", "convnext"),
            _encoder("fd-dinov2-256", "dinov2-vitl14-256", "imagenet-unclipped", "dinov2"),
            _encoder("fd-mae", "mae-vit-l-16-timm", "imagenet-unclipped", "mae"),
            _encoder("fd-siglip2", "siglip2-so400m-16", "siglip", "siglip"),
            _encoder("fd-clip-256", "clip-vit-l-14-256", "clip-unclipped", "clip"),
        ),
        n_generated=50_000,
        generated_size=256,
        reference_title="paper_ref_stats.pkl (ImageNet train, ADM's crop)",
        validation_fd={
            "fid": 1.68,
            "fd-convnextv2": 56.87,
            "fd-dinov2-256": 14.19,
            "fd-mae": 0.04,
            "fd-siglip2": 0.60,
            "fd-clip-256": 5.60,
        },
        published=(
            Published(model="best one-step generator of the paper", values={"fid": 0.72}, source="arXiv:2604.28190"),
        ),
        unverified=(
            "the statistics file and the published weights of the encoders were not read",
            "encoders, sizes, pooling and normalisation are from public copies of the paper's code, not from its repository",
        ),
        note="the paper allows TF32 where it does not compute in bfloat16, and scores the generator's images before they become 8 bits",
    ),
}

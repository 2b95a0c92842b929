"""FDr-6: Fréchet distances of six encoders, each divided by that of ImageNet's validation images."""

from __future__ import annotations

from frechet.protocols.protocol import Measurement, Protocol

PROTOCOLS = {
    "fdr6-imagenet-256": Protocol(
        title="FD of Inception as in FDr-6 on ImageNet at 256 pixels",
        source="arXiv:2604.28190; jjiaweiyang/FD-Loss",
        measurements=(
            Measurement(metrics=("fid",), preprocessing="tensorflow", reference="fdr6-imagenet-256-inception"),
        ),
        n_generated=50_000,
        generated_size=256,
        reference_title="paper_ref_stats.pkl (ImageNet train, ADM's crop)",
        not_computed=(
            "FD of ConvNeXtV2-B, DINOv2-L (256 pixels), MAE-L, SigLIP2-so400m and CLIP-L, and therefore FDr-6, the mean FDr of the six extractors",
            "FDr of Inception, which is its FD divided by 1.68, the FD of the validation images",
        ),
        unverified=("the statistics file was not read",),
    ),
}

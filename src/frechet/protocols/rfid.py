"""Reconstruction FID of autoencoders and tokenizers on ImageNet's validation images."""

from __future__ import annotations

from frechet.protocols.protocol import Measurement, Protocol, Published

PROTOCOLS = {
    "rfid-imagenet-256": Protocol(
        title="rFID of the 50,000 validation images of ImageNet at 256 pixels",
        source="1d-tokenizer (TiTok) and RAE: ADM's crop; LightningDiT: torchvision's crop and pytorch-fid",
        measurements=(Measurement(metrics=("rfid", "psnr", "ssim", "lpips"), preprocessing="tensorflow"),),
        n_generated=50_000,
        generated_size=256,
        n_reference=50_000,
        reference_title="the ImageNet validation images",
        reference_crop="adm",
        crop_size=256,
        alternatives={
            "reference_crop": ("torchvision",),
            "preprocessing": ("pytorch-fid",),
            "metrics": ("rfid", "rfid,psnr,ssim", "rfid,psnr,ssim,lpips@vgg"),
        },
        order="paired",
        published=(
            Published(model="RAE, DINOv2-B, ViT-XL", values={"rfid": (0.5703, 0.5776)}, source="RAE, issue 11"),
            Published(model="VA-VAE", values={"rfid": 0.344}, source="LightningDiT, issue 26"),
            Published(
                model="MAR-VAE", values={"rfid": 0.573}, source="LightningDiT, issue 26, whereas issue 7 reports 0.53"
            ),
            Published(
                model="VAR", values={"rfid": 0.92}, source="reported in guided-diffusion, issue 161, not verified"
            ),
        ),
        note="the reference is the cropped validation set itself, not ADM's statistics of the training set, against which the "
        "same reconstructions score about 1.3 higher",
    ),
}

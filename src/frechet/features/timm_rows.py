"""Rows of the table that are models of the timm library: the encoders of FDr-6."""

from __future__ import annotations

from frechet.features.extractor_row import Extractor
from frechet.features.timm_model import TimmModel

_NOTE = "features as in arXiv:2604.28190, read from public copies of its code; tested with small random models, not with the published weights"
# Images of another size than in training: the position embeddings are interpolated. The input is padded with zeros (at the right and
# the bottom, after the normalization) to whole patches: 256 pixels to 266 = 19 patches of 14.
_ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}


def _make_row(dims: int, *, note: str = _NOTE, **fields: object) -> Extractor:
    return Extractor(layers={str(dims): dims}, default_layer=str(dims), note=note, **fields)  # type: ignore[arg-type]


ROWS = {
    "convnextv2-b": _make_row(
        1024,
        title="ConvNeXtV2-B",
        model=TimmModel(architecture="convnextv2_base.fcmae_ft_in22k_in1k", pooling="mean of positions"),
        input_size=224,
        preprocessings=("imagenet-unclipped",),
        licence="CC-BY-NC-4.0",
        paper="Woo et al. 2023, arXiv:2301.00808",
        note=f"{_NOTE}; the mean is that of the positions before the last norm",
    ),
    "dinov2-vitl14-256": _make_row(
        1024,
        title="DINOv2-ViT-L/14-256",
        model=TimmModel(architecture="vit_large_patch14_dinov2.lvd142m", pooling="class token", model_kwargs=_ANY_SIZE),
        input_size=256,
        preprocessings=("imagenet-unclipped",),
        licence="Apache-2.0",
        paper="Oquab et al. 2023, arXiv:2304.07193",
    ),
    "mae-vit-l-16-timm": _make_row(
        1024,
        title="MAE-ViT-L/16-timm",
        model=TimmModel(architecture="vit_large_patch16_224.mae", pooling="class token", model_kwargs=_ANY_SIZE),
        input_size=224,
        preprocessings=("imagenet-unclipped",),
        licence="CC-BY-NC-4.0",
        paper="He et al. 2021, arXiv:2111.06377",
    ),
    "siglip2-so400m-16": _make_row(
        1152,
        title="SigLIP2-So400m/16",
        model=TimmModel(
            architecture="vit_so400m_patch16_siglip_256.v2_webli", pooling="attention", model_kwargs=_ANY_SIZE
        ),
        input_size=224,
        preprocessings=("siglip",),
        licence="Apache-2.0",
        paper="Tschannen et al. 2025, arXiv:2502.14786",
    ),
    "clip-vit-l-14-256": _make_row(
        1024,
        title="CLIP-ViT-L/14-256",
        model=TimmModel(
            architecture="vit_large_patch14_clip_224.openai", pooling="class token", model_kwargs=_ANY_SIZE
        ),
        input_size=256,
        preprocessings=("clip-unclipped",),
        licence="MIT",
        paper="Radford et al. 2021, arXiv:2103.00020",
        note=f"{_NOTE}; before the projection, and with GELU, whereas OpenAI trained the network with QuickGELU",
    ),
}

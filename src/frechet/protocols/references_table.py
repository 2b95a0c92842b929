"""The named references: published statistics files that papers compare with, as data.

The sources were read in 2026. A row without sha256 has a publisher who states none; the first download is then recorded (see
`references_lock`). Further references: `frechet reference add`.
"""

from __future__ import annotations

from dataclasses import dataclass

_IMAGENET_TRAIN = 1_281_167  # images
_ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches"
_NVIDIA = "https://nvlabs-fi-cdn.nvidia.com"
_TTUR = "http://bioinf.jku.at/research/ttur/ttur_stats"
_JIT = "https://raw.githubusercontent.com/LTH14/JiT/refs/heads/main/fid_stats"
_FD_LOSS = "hf://jjiaweiyang/FD-Loss/data/fid_stats/paper_ref_stats.pkl"


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What identifies statistics independently of the file that they are in.

    Attributes:
        n: number of images; None if the file does not record it.
        dims: number of features d.
        mean_squared_norm: ‖μ‖².
        covariance_trace: tr Σ.
        values_sha256: hex digest of mean and covariance, rounded to float32.
    """

    n: int | None
    dims: int
    mean_squared_norm: float
    covariance_trace: float
    values_sha256: str


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A file of reference statistics, and how they were computed as far as this is known.

    Attributes:
        title: what the statistics were computed from.
        url: URL of the file, with #NAME if it has several statistics; the absolute path of a local file that was added.
        sha256: hex digest of the file; None if nobody states it and the file was not downloaded yet.
        n: number of images behind the statistics; None if unknown.
        dims: number of features d.
        extractor: extractor of the features; None if unknown.
        preprocessing: preprocessing of the images; None if unknown.
        note: what users should know about the file.
        fingerprint: what identifies the statistics, once the file was read.
    """

    title: str
    url: str
    sha256: str | None = None
    n: int | None = None
    dims: int | None = None
    extractor: str | None = "inception"
    preprocessing: str | None = None
    note: str = ""
    fingerprint: Fingerprint | None = None


def _inception(title: str, url: str, **fields: str | int | None) -> Reference:
    """Return a row of Inception's features with the preprocessing of TTUR, ADM, EDM and torch-fidelity."""
    return Reference(title=title, url=url, **{"dims": 2048, "preprocessing": "tensorflow", **fields})  # type: ignore[arg-type]


def _adm(title: str, path: str, n: int | None = None) -> Reference:
    note = "has 10,000 images for precision and recall, and the statistics of sFID"
    return _inception(title, f"{_ADM}/{path}.npz", n=n, note=note)


def _fd_loss(entry: str, extractor: str, dims: int, preprocessing: str, note: str = "arXiv:2604.28190") -> Reference:
    return Reference(
        title=f"ImageNet train, ADM's crop to 256 pixels, {extractor}",
        url=f"{_FD_LOSS}#{entry}",
        n=_IMAGENET_TRAIN,
        dims=dims,
        extractor=extractor,
        preprocessing=preprocessing,
        note=note,
    )


REFERENCES = {
    "adm-imagenet-64": _adm("ImageNet train at 64 pixels", "imagenet/64/VIRTUAL_imagenet64_labeled", _IMAGENET_TRAIN),
    "adm-imagenet-128": _adm(
        "ImageNet train at 128 pixels", "imagenet/128/VIRTUAL_imagenet128_labeled", _IMAGENET_TRAIN
    ),
    "adm-imagenet-256": _adm(
        "ImageNet train at 256 pixels", "imagenet/256/VIRTUAL_imagenet256_labeled", _IMAGENET_TRAIN
    ),
    "adm-imagenet-512": _adm("ImageNet train at 512 pixels", "imagenet/512/VIRTUAL_imagenet512", _IMAGENET_TRAIN),
    "adm-lsun-bedroom": _adm("LSUN bedroom at 256 pixels", "lsun/bedroom/VIRTUAL_lsun_bedroom256"),
    "adm-lsun-cat": _adm("LSUN cat at 256 pixels", "lsun/cat/VIRTUAL_lsun_cat256"),
    "adm-lsun-horse": _adm("LSUN horse at 256 pixels", "lsun/horse/VIRTUAL_lsun_horse256"),
    "mar-imagenet-256": _inception(
        "ImageNet train at 256 pixels, ADM's mean and covariance",
        "https://github.com/LTH14/mar/blob/main/fid_stats/adm_in256_stats.npz",
        n=_IMAGENET_TRAIN,
    ),
    "jit-imagenet-256": _inception(
        "ImageNet at 256 pixels, as JiT computed it",
        f"{_JIT}/jit_in256_stats.npz",
        sha256="412046720c0d496dc6d72a30eac3e22b9ef6ddac3501cce7f996674ad227ba4c",
        note="differs from ADM's statistics; the sha256 is stated by a third party",
    ),
    "jit-imagenet-512": _inception(
        "ImageNet at 512 pixels, as JiT computed it",
        f"{_JIT}/jit_in512_stats.npz",
        sha256="cdd15b54f9d1f26a881fcdc920a3410fa7a934047d6c4f5b8395b87182a9ab42",
        note="the sha256 is stated by a third party",
    ),
    "meanflow-imagenet-256": _inception(
        "ImageNet at 256 pixels, computed with JAX on TPUs",
        "hf://Lyy0725/iMF/imagenet_256_fid_stats.npz",
        note="its authors report small differences from statistics computed on GPUs",
    ),
    "edm-cifar10-32": _inception("CIFAR-10 train", f"{_NVIDIA}/edm/fid-refs/cifar10-32x32.npz", n=50_000),
    "edm-ffhq-64": _inception("FFHQ at 64 pixels", f"{_NVIDIA}/edm/fid-refs/ffhq-64x64.npz"),
    "edm-afhqv2-64": _inception("AFHQv2 at 64 pixels", f"{_NVIDIA}/edm/fid-refs/afhqv2-64x64.npz"),
    "edm-imagenet-64": _inception("ImageNet train at 64 pixels", f"{_NVIDIA}/edm/fid-refs/imagenet-64x64.npz"),
    "edm2-img64": _inception("ImageNet train at 64 pixels", f"{_NVIDIA}/edm2/dataset-refs/img64.pkl#fid"),
    "edm2-img512": _inception("ImageNet train at 512 pixels", f"{_NVIDIA}/edm2/dataset-refs/img512.pkl#fid"),
    "edm2-img512-dinov2": Reference(
        title="ImageNet train at 512 pixels, DINOv2",
        url=f"{_NVIDIA}/edm2/dataset-refs/img512.pkl#fd_dinov2",
        dims=1024,
        extractor="dinov2-vitl14",
        preprocessing="imagenet-unclipped",
    ),
    "fdr6-imagenet-256-inception": _fd_loss(
        "guided_diffusion_stats",
        "inception",
        2048,
        "fd-loss",
        "ADM's statistics, for which the pixels were normalised by (x - 128)/128; arXiv:2604.28190 compares them with features of "
        "pixels that are normalised by 2x/255 - 1",
    ),
    "fdr6-imagenet-256-convnext": _fd_loss("convnext_in256_t224_stats", "convnextv2-b", 1024, "imagenet-unclipped"),
    "fdr6-imagenet-256-dinov2": _fd_loss(
        "vit_large_patch14_dinov2_lvd142m_in256_t256_stats", "dinov2-vitl14-256", 1024, "imagenet-unclipped"
    ),
    "fdr6-imagenet-256-mae": _fd_loss(
        "vit_large_patch16_224_mae_in256_t224_stats", "mae-vit-l-16-timm", 1024, "imagenet-unclipped"
    ),
    "fdr6-imagenet-256-siglip": _fd_loss(
        "vit_so400m_patch16_siglip_256_v2_webli_in256_t224_stats", "siglip2-so400m-16", 1152, "siglip"
    ),
    "fdr6-imagenet-256-clip": _fd_loss(
        "vit_large_patch14_clip_224_openai_in256_t256_stats", "clip-vit-l-14-256", 1024, "clip-unclipped"
    ),
    "coco-30k-t2ibench": _inception(
        "MS-COCO val2014",
        "https://github.com/boomb0om/text2image-benchmark/releases/download/v0.0.1/MS-COCO_val2014_fid_stats.npz",
        preprocessing="quantised-bicubic",
        note="central square, Pillow's bicubic in 8 bits",
    ),
    "mlperf-sdxl": _inception(
        "MS-COCO val2014, 5,000 images",
        "https://github.com/mlcommons/inference/blob/master/text_to_image/tools/val2014.npz",
        n=5_000,
        preprocessing="pytorch-fid",
    ),
    **{
        f"ttur-{name.replace('_', '-')}": _inception(title, f"{_TTUR}/fid_stats_{name}.npz", n=n)
        for name, title, n in (
            ("celeba", "CelebA", None),
            ("lsun_train", "LSUN train", None),
            ("cifar10_train", "CIFAR-10 train", 50_000),
            ("svhn_train", "SVHN train", None),
            ("imagenet_train", "ImageNet train", None),
            ("imagenet_valid", "ImageNet validation", None),
        )
    },
}

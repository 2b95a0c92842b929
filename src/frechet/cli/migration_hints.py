"""Flags of other tools, and what they are called here."""

from __future__ import annotations

import click

_SIDES = "frechet score GENERATED REFERENCE"
_FLAGS = {  # flag -> (whose, ours); clean-fid's and torchmetrics' are arguments of functions
    "--num-workers": ("pytorch-fid", "--workers"),
    "--save-stats": ("pytorch-fid", "frechet stats IMAGES OUT.npz"),
    "--mode": ("clean-fid", "--convention clean, pytorch-fid (legacy_pytorch) or tensorflow (legacy_tensorflow)"),
    "--path1": ("jax-fid", _SIDES),
    "--path2": ("jax-fid", _SIDES),
    "--precompute": ("jax-fid", "frechet stats IMAGES OUT.npz"),
    "--input1": ("torch-fidelity", _SIDES),
    "--input2": ("torch-fidelity", _SIDES),
    "--gpu": ("torch-fidelity", "--device cuda:N"),
    "--cpu": ("torch-fidelity", "--device cpu"),
    "--fid": ("torch-fidelity", "--metrics fid"),
    "--isc": ("torch-fidelity", "--metrics is@torch-fidelity"),
    "--kid": ("torch-fidelity", "--metrics kid@torch-fidelity"),
    "--prc": ("torch-fidelity", "--metrics precision,recall"),
    "--isc-splits": ("torch-fidelity", "--splits"),
    "--feature-extractor": ("torch-fidelity", "--extractor"),
    "--feature-extractor-weights-path": ("torch-fidelity", "--weights"),
    "--rng-seed": ("torch-fidelity", "--seed"),
    "--samples-find-deep": ("torch-fidelity", "what is always done"),
    "--ref": ("edm2", _SIDES),
    "--num": ("edm2", "--num-images"),
}


def with_ours(error: click.NoSuchOption) -> click.UsageError:
    """The error, which names our flag where the one that was given is another tool's."""
    known = _FLAGS.get(error.option_name)
    if known is None:
        return error
    tool, ours = known
    told = f"{error.option_name} is a flag of {tool}: here it is {ours} (docs/coming-from/{tool}.md)."
    return click.UsageError(told, ctx=error.ctx)

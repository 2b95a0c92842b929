"""Flags of other tools, and what they are called here."""

from __future__ import annotations

import click

_SCORE_USAGE = "frechet score GENERATED REFERENCE"
_EQUIVALENTS = {  # flag -> (whose, ours); clean-fid's and torchmetrics' are arguments of functions
    "--num-workers": ("pytorch-fid", "--workers"),
    "--save-stats": ("pytorch-fid", "frechet stats IMAGES OUT.npz"),
    "--mode": ("clean-fid", "--preprocessing clean, pytorch-fid (legacy_pytorch) or tensorflow (legacy_tensorflow)"),
    "--path1": ("jax-fid", _SCORE_USAGE),
    "--path2": ("jax-fid", _SCORE_USAGE),
    "--precompute": ("jax-fid", "frechet stats IMAGES OUT.npz"),
    "--input1": ("torch-fidelity", _SCORE_USAGE),
    "--input2": ("torch-fidelity", _SCORE_USAGE),
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
    "--ref": ("edm2", _SCORE_USAGE),
    "--num": ("edm2", "--num-images"),
}


def add_migration_hint(error: click.NoSuchOption) -> click.UsageError:
    """The error, which names our flag where the one that was given is another tool's."""
    equivalent = _EQUIVALENTS.get(error.option_name)
    if equivalent is None:
        return error
    tool, replacement = equivalent
    message = f"{error.option_name} is a flag of {tool}: here it is {replacement} (docs/coming-from/{tool}.md)."
    return click.UsageError(message, ctx=error.ctx)

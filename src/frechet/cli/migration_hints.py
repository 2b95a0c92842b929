"""Hints for users of other tools: which frechet option replaces an option of theirs."""

from __future__ import annotations

import click

_RUN_SCORE = "run frechet score GENERATED REFERENCE"
_RUN_STATS = "run frechet stats IMAGES OUT.npz"
# option -> (tool, what to do instead). The options of clean-fid are arguments of Python functions.
_HINTS = {
    "--num-workers": ("pytorch-fid", "use --workers"),
    "--save-stats": ("pytorch-fid", _RUN_STATS),
    "--mode": (
        "clean-fid",
        "use --preprocessing clean, pytorch-fid (for legacy_pytorch) or tensorflow (for legacy_tensorflow)",
    ),
    "--path1": ("jax-fid", _RUN_SCORE),
    "--path2": ("jax-fid", _RUN_SCORE),
    "--precompute": ("jax-fid", _RUN_STATS),
    "--input1": ("torch-fidelity", _RUN_SCORE),
    "--input2": ("torch-fidelity", _RUN_SCORE),
    "--gpu": ("torch-fidelity", "use --device cuda:N"),
    "--cpu": ("torch-fidelity", "use --device cpu"),
    "--fid": ("torch-fidelity", "use --metrics fid"),
    "--isc": ("torch-fidelity", "use --metrics is@torch-fidelity"),
    "--kid": ("torch-fidelity", "use --metrics kid@torch-fidelity"),
    "--prc": ("torch-fidelity", "use --metrics precision,recall"),
    "--isc-splits": ("torch-fidelity", "use --splits"),
    "--feature-extractor": ("torch-fidelity", "use --extractor"),
    "--feature-extractor-weights-path": ("torch-fidelity", "use --weights"),
    "--rng-seed": ("torch-fidelity", "use --seed"),
    "--samples-find-deep": ("torch-fidelity", "omit it: folders are always searched recursively"),
    "--ref": ("edm2", _RUN_SCORE),
    "--num": ("edm2", "use --num-images"),
}


def add_migration_hint(error: click.NoSuchOption) -> click.UsageError:
    """Replace the error for an option of another tool by one that names frechet's option."""
    hint = _HINTS.get(error.option_name)
    if hint is None:
        is_without_command = (
            isinstance(error.ctx and error.ctx.command, click.Group) and error.ctx and not error.ctx.parent
        )
        if is_without_command:
            return click.UsageError(
                f"no command is given; {error.option_name} is an option of a command. Expected, for example: "
                f"frechet score GENERATED REFERENCE {error.option_name}",
                ctx=error.ctx,
            )
        return error
    tool, instruction = hint
    message = f"{error.option_name} is an option of {tool}. Instead, {instruction} (see docs/coming-from/{tool}.md)."
    return click.UsageError(message, ctx=error.ctx)

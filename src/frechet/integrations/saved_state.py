"""What the saved state of a metric was computed with, so that it is not loaded into another metric or by another process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from frechet.errors import MismatchError
from frechet.features.identity_parts import describe_difference, get_parts, record_parts
from frechet.features.spec import FeatureSpec, abbreviate
from frechet.integrations.layer_states import LayerStates

_MAX_PARTS_BYTES = 16_384  # every rank sends the identity to the others
_NOT_COMPARED = {"is_official", "weights_parts", "reset_real_features"}  # of states that are loaded


def encode_identity(spec: FeatureSpec, layers: Iterable[LayerStates], **settings: Any) -> bytes:
    """Return what identifies a metric's states, as JSON.

    Args:
        spec: what identifies the features.
        layers: the states.
        **settings: how images become features.
    """
    parts = get_parts(spec.weights) or {}
    content = {
        **asdict(spec),
        "images": {_name_states(each): "all rows" if each.keeps_all_rows else "a sample" for each in layers},
        **settings,
        "weights_parts": parts if len(json.dumps(parts)) <= _MAX_PARTS_BYTES else {},
    }
    return json.dumps(content).encode()


def _name_states(states: LayerStates) -> str:
    layer = "" if states.is_main else f", layer {states.spec.layer}"
    return f"{states.image_set}{layer} ({states.dims} features)"


def validate_identity(stored: bytes, own: bytes) -> None:
    """Require that states that are loaded were computed as those of this metric.

    Raises:
        MismatchError: names every setting that differs, with both values.
    """
    found, expected = _decode(stored), _decode(own)
    record_parts(found.get("weights"), found.get("weights_parts"))
    differences = [
        _describe(key, found.get(key), expected.get(key))
        for key in {**expected, **found}
        if key not in _NOT_COMPARED and found.get(key) != expected.get(key)
    ]
    if not found:
        differences = ["it does not record its settings, or another version of frechet saved it"]
    if differences:
        raise MismatchError(
            f"the state is that of another metric: {'; '.join(differences)}. Load it into a metric with the extractor, the metrics and "
            "the settings of the one that was saved; only its reference may be another one."
        )


def _decode(identity: bytes) -> dict[str, Any]:
    try:
        content = json.loads(identity)
    except (ValueError, TypeError):
        return {}
    return content if isinstance(content, dict) else {}


def _describe(key: str, found: Any, expected: Any) -> str:
    if key == "images":
        found, expected = (_list_images(each) for each in (found, expected))
    parts = describe_difference(found, expected) if key == "weights" else ""
    return f"{key} {abbreviate(str(found))} (state) and {abbreviate(str(expected))} (this metric){parts}"


def _list_images(states: Any) -> str:
    return ", ".join(f"{name}: {rows}" for name, rows in states.items()) if isinstance(states, Mapping) else str(states)


def validate_rank(stored: Iterable[int], own: tuple[int, int]) -> None:
    """Require that a process loads the images of its own rank.

    Args:
        stored: rank and number of ranks of the process that saved the state; (0, 1) if it has the images of all ranks.
        own: those of this process.

    Raises:
        MismatchError: images would be counted by several ranks, or be lost.
    """
    (rank, world_size), (own_rank, own_world_size) = stored, own
    is_complete = world_size == 1
    if (rank, world_size) == own or (is_complete and own_rank == 0):
        return
    saved_by = "all images" if is_complete else f"the images of rank {rank} of {world_size}"
    advice = (
        "Load it on rank 0 only."
        if is_complete
        else "Save the state of every rank to its own file and load it on the same rank of as many ranks, or compute the value before saving "
        "and call reset()."
    )
    raise MismatchError(
        f"the state has {saved_by}, but this process is rank {own_rank} of {own_world_size}, so that images would be counted twice or "
        f"be lost. {advice}"
    )

"""Sums over the shards of `jax.shard_map`, in whose programs each device sees only its own part of an array."""

from __future__ import annotations

from typing import Any

import jax

from frechet.errors import RequestError

_PMAP_AXIS = "_internal_pmap_axis_name"  # the results of pmap keep one row per device, so that nothing is lost


def find_sharded_axes(part: jax.Array, total: jax.Array) -> tuple[str, ...]:
    """Return the axes of the mesh over which an array is split, and a total to which it is added is not.

    Args:
        part: an array, in a program of `shard_map` this device's part.
        total: a sum that is the same on all devices, or one sum per device.

    Raises:
        RequestError: `shard_map` does not track which arrays are split.
    """
    get_mesh = getattr(jax.sharding, "get_abstract_mesh", None)
    axes = [] if get_mesh is None else [axis for axis in get_mesh().manual_axes if axis != _PMAP_AXIS]
    if any(axis not in _find_varying_axes(jax.lax.axis_index(axis)) for axis in axes):
        raise RequestError(
            "update was called inside of shard_map with check_vma=False, where it cannot be known over which axes images are "
            "split, so that only those of one device might be counted. Use check_vma=True, or call update outside of "
            "shard_map on sharded arrays."
        )
    return tuple(sorted(_find_varying_axes(part) - _find_varying_axes(total)))


def _find_varying_axes(array: jax.Array) -> frozenset[str]:
    """Return the axes of the mesh along which the parts of an array differ, as far as `shard_map` tracks them."""
    aval: Any = jax.typeof(array)
    tracked = getattr(aval, "manual_axis_type", None)
    varying: frozenset[str] = getattr(aval, "vma", frozenset()) if tracked is None else tracked.varying
    return varying

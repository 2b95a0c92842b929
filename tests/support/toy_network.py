"""Extractors that cost nothing, for processes that load theirs by name: an image's first six values."""

import time


def corner(images):
    """(n, 3, 4, 4) -> (n, 6)."""
    return images.flatten(1)[:, :6].contiguous()


def slow_corner(images):
    """The same, at leisure."""
    time.sleep(0.05)
    return corner(images)


corner.pixels = slow_corner.pixels = 4

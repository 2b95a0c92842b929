"""Extractors without a network, for processes that load them by name: the first six values of an image."""

import time


def corner(images):
    """Return (n, 6) features of (n, 3, 4, 4) images."""
    return images.flatten(1)[:, :6].contiguous()


def slow_corner(images):
    """Return the same features after 50 ms."""
    time.sleep(0.05)
    return corner(images)


corner.input_size = slow_corner.input_size = 4

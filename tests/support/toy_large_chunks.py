"""As toy_network, where more than a thousand images are cut into large parts of 512, in whichever process loads it."""

import toy_network

from frechet.execution import chunks
from frechet.images.loader import CHUNK_SIZE

chunks.LARGE_CHUNK_THRESHOLD, chunks.LARGE_CHUNK_SIZE = 1000, 2 * CHUNK_SIZE
corner = toy_network.corner

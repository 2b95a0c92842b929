"""The extractor of toy_network; a process that imports this module uses large chunks of 512 images above 1,000 images."""

import toy_network

from frechet.execution import chunks
from frechet.images.loader import CHUNK_SIZE

chunks.LARGE_CHUNK_THRESHOLD, chunks.LARGE_CHUNK_SIZE = 1000, 2 * CHUNK_SIZE
corner = toy_network.corner

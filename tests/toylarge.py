"""As toynet, where more than a thousand images are cut into large parts of 512, in whichever process loads it."""

import toynet

from frechet.execution import chunks
from frechet.images.loader import PART

chunks.MANY, chunks.LARGE = 1000, 2 * PART
corner = toynet.corner

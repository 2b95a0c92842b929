"""As toynet, where more than a thousand images are cut into large parts of 512, in whichever process loads it."""

import toynet

from frechet.engines import parts
from frechet.images.loader import PART

parts.MANY, parts.LARGE = 1000, 2 * PART
corner = toynet.corner

"""The slow extractor of toy_network; a process that imports this module reports a stopped rank after two seconds."""

import toy_network

from frechet.execution import liveness

liveness._HEARTBEAT_SECONDS, liveness._SILENCE_SECONDS = 0.2, 2.0
slow_corner = toy_network.slow_corner

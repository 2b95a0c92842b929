"""Write seeded, untrained Inception weights in the official layout, for machines without the official file.

    python benchmarks/weights.py FILE.pth [--seed 2015]

All tools can load them. Speeds do not depend on the values. Distances computed with them say nothing about images, but two
tools with the same preprocessing must compute the same distance.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))  # the tests use the same weights
from seeded_weights import make_seeded_state_dict, write_pth


def write_weights(file, seed=2015):
    """Write the weights, and return the path."""
    # other tools also need the bias of the classifier
    state = make_seeded_state_dict(seed, head=True) | {"fc.bias": np.zeros(1008, np.float32)}
    return write_pth(file, state)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=2015)
    args = parser.parse_args()
    print(write_weights(args.file, args.seed))


if __name__ == "__main__":
    main()

"""Write seeded, untrained Inception weights in the official layout, for whoever cannot download the official file.

    python benchmarks/weights.py FILE.pth [--seed 2015]

All tools load them. Rates do not depend on the numbers in them; distances with them mean nothing about images, but two
tools that follow one convention must give the same.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # they draw the same weights
from seeded_weights import make_seeded_state_dict, write_pth


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=2015)
    args = parser.parse_args()
    state = make_seeded_state_dict(args.seed, head=True) | {
        "fc.bias": np.zeros(1008, np.float32)
    }  # the peers want the bias too
    print(write_pth(args.file, state))


if __name__ == "__main__":
    main()

"""Optimise noise until it scores like photographs, by Adam on the pixels with the Fréchet distance as loss.

    python examples/adversarial_noise.py                         # EfficientNet-Lite0: trained weights without a download
    python examples/adversarial_noise.py --extractor inception   # FID, which needs its official weights

The experiment is that of FastFID (Mathiasen & Hvilshøj 2020, arXiv:2009.14075).
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import frechet
from frechet.demo.photographs import NATURAL_PHOTOGRAPHS, sample_patches
from frechet.losses.torch import FIDLoss


def main(argv=None):
    options = parse_args(argv)
    torch.manual_seed(options.seed)

    reference = frechet.collect(
        sample_patches(NATURAL_PHOTOGRAPHS, options.reference, seed=0), extractor=options.extractor
    )
    loss = FIDLoss(reference, extractor=options.extractor, gradient_checkpointing=True)

    # other patches than those of the reference
    photographs = to_image_tensor(sample_patches(NATURAL_PHOTOGRAPHS, options.images, seed=1))
    with torch.no_grad():
        target = loss(photographs).item()

    noise = torch.rand_like(photographs)
    optimised, curve = optimize_images(noise, loss, steps=options.steps, learning_rate=options.learning_rate)
    print(f"distance of {options.images} images to {options.reference} photographs")
    print(f"  noise             {curve[0]:.4g}")
    print(f"  noise, optimised  {curve[-1]:.4g}")
    print(f"  photographs       {target:.4g}")
    plot_result(noise, optimised, photographs, curve, target).savefig(options.output)
    print(f"figure: {options.output}")
    return curve


def optimize_images(images, loss, *, steps, learning_rate):
    """Return images of lower loss, and the loss before each step and after the last."""
    images = images.clone().requires_grad_()
    adam = torch.optim.Adam([images], lr=learning_rate)
    curve = []
    for step in range(steps):
        adam.zero_grad()
        distance = loss(images)
        distance.backward()
        adam.step()
        with torch.no_grad():
            images.clamp_(0, 1)
        curve.append(distance.item())
        print(f"step {step:3}  {curve[-1]:.4g}", flush=True)
    with torch.no_grad():
        curve.append(loss(images).item())
    return images.detach(), curve


def to_image_tensor(arrays):
    """Convert uint8 arrays (n, h, w, 3) to a tensor (n, 3, h, w) in [0, 1]."""
    return torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255


def plot_result(noise, optimised, photographs, curve, target, columns=6):
    """Plot three rows of images and the loss curve."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=(1.5, 1), layout="constrained", dpi=110)
    rows = {
        f"noise\n{curve[0]:.3g}": noise,
        f"optimised\n{curve[-1]:.3g}": optimised,
        f"photographs\n{target:.3g}": photographs,
    }
    strips = [torch.cat(list(images[:columns]), dim=2) for images in rows.values()]
    height = noise.shape[2]
    left.imshow(torch.cat(strips, dim=1).permute(1, 2, 0).numpy())
    left.set_yticks([height * (row + 0.5) for row in range(len(rows))], rows)
    left.set_xticks([])
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    right.plot(curve, color="#4269d0", linewidth=2.5)
    right.axhline(target, color="#8a8a8a", linestyle="--")
    right.annotate(
        "as many photographs", (len(curve) - 1, target), (0, 4), textcoords="offset points", ha="right", color="#8a8a8a"
    )
    right.set(xlabel="steps of Adam", ylabel="Fréchet distance", ylim=(0, None))
    right.spines[["top", "right"]].set_visible(False)
    return figure


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--extractor",
        default="efficientnet-lite0",
        help="Extractor of the loss (%(default)s); inception needs the official weights.",
    )
    parser.add_argument("--images", type=int, default=16, help="Number of noise images (%(default)s).")
    parser.add_argument(
        "--reference", type=int, default=1000, help="Number of photographs in the reference (%(default)s)."
    )
    parser.add_argument("--steps", type=int, default=40, help="Number of optimiser steps (%(default)s).")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="Learning rate of Adam (%(default)s).")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("adversarial-noise.png"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

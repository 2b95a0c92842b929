"""The parts of train_on_fd.ipynb: does a generator get better when its Fréchet distance is the loss, or only fool it?

A small variational autoencoder learns patches of photographs by a plain loss. Then its decoder is trained further to lower
the Fréchet distance of EfficientNet-Lite0's features, and judged by that distance and by features that the loss never saw.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional

import frechet
from frechet.demo.photographs import NATURAL_PHOTOGRAPHS, sample_patches

OFFLINE = "efficientnet-lite0"  # the extractor whose trained weights need no download
LATENT_DIM = 64


@dataclass(frozen=True)
class Budget:
    """How much of everything: photographs a side, epochs of both small networks, steps of `finetune` and their images."""

    photographs: int
    epochs: int
    steps: int
    batch: int


FULL_BUDGET = Budget(photographs=2000, epochs=20, steps=20, batch=64)
SMALL_BUDGET = Budget(photographs=32, epochs=1, steps=2, batch=6)


# The data


def photographs(n, seed):
    """(n, 3, 32, 32) in 0..1: patches of seven photographs in turn."""
    return functional.avg_pool2d(
        torch.from_numpy(sample_patches(NATURAL_PHOTOGRAPHS, n, seed)).permute(0, 3, 1, 2) / 255, 3
    )


def to_uint8_arrays(images):
    """The same as (n, 32, 32, 3) uint8, as files would hold them."""
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()


# The generator, and the plain loss that it starts from


class Generator(nn.Sequential):
    """(n, 64) standard normal -> (n, 3, 32, 32) in 0..1. No batch norm: an image must not depend on its batch."""

    def __init__(self):
        super().__init__(
            nn.Linear(LATENT_DIM, 128 * 16),
            nn.Unflatten(1, (128, 4, 4)),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 3, 3, padding=1),
            nn.Sigmoid(),
        )


def make_small_network(outputs):
    """(n, 3, 32, 32) -> (n, outputs)."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 128, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128 * 16, outputs),
    )


def pretrain(images, *, epochs):
    """A generator by a variational autoencoder: squared error, and latents that resemble a standard normal."""
    generator, encoder = Generator(), make_small_network(2 * LATENT_DIM)
    adam = torch.optim.Adam([*generator.parameters(), *encoder.parameters()], lr=1e-3)
    for _ in range(epochs):
        for batch in images[torch.randperm(len(images))].split(64):
            mean, log_variance = encoder(batch).chunk(2, dim=1)
            latents = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
            error = (generator(latents) - batch).square().sum() / (2 * 0.1**2)
            divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
            adam.zero_grad()
            ((error + divergence) / len(batch)).backward()
            adam.step()
    return generator


# The Fréchet distance as a loss


def finetune(generator, loss, *, steps, batch, learning_rate=1e-3):
    """Train the generator on the loss of `batch` fresh images a step; the loss of each step comes back."""
    adam = torch.optim.Adam(generator.parameters(), lr=learning_rate)
    curve = []
    for step in range(steps):
        latents = torch.randn(batch, LATENT_DIM)
        adam.zero_grad()
        distance = loss.backward_in_microbatches(lambda start, stop: generator(latents[start:stop]), batch)  # noqa: B023
        adam.step()
        curve.append(distance.item())
        print(f"step {step:3}  {curve[-1]:.4g}", flush=True)
    return curve


@torch.no_grad()
def generate_samples(generator, n, seed):
    """(n, 3, 32, 32) of fresh latents."""
    return generator(torch.randn(n, LATENT_DIM, generator=torch.Generator().manual_seed(seed)))


# The judges


def train_classifier(images, *, epochs):
    """Features of a network that learned which of the seven photographs a patch is from; its last layer is left out."""
    labels = torch.arange(len(images)) % len(NATURAL_PHOTOGRAPHS)
    body, head = make_small_network(96), nn.Sequential(nn.ReLU(), nn.Linear(96, len(NATURAL_PHOTOGRAPHS)))
    adam = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=1e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(64):
            adam.zero_grad()
            functional.cross_entropy(head(body(images[chosen])), labels[chosen]).backward()
            adam.step()
    return body


def random_filter_features(images):
    """Texture: how strongly 96 random filters of 5 x 5 pixels answer, on average."""
    filters = torch.randn(96, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return functional.conv2d(images, filters - filters.mean(dim=(1, 2, 3), keepdim=True)).relu().mean(dim=(2, 3))


def coarse_pixel_features(images):
    """Colours and coarse shapes: the images at 4 x 4 pixels."""
    return functional.avg_pool2d(images, 8).flatten(1)


def make_judges(images, *, epochs):
    """Name -> how that judge sees images: the loss's own network, and three that the loss does not use."""
    feature_functions = {
        "classifier": train_classifier(images, epochs=epochs),
        "random filters": random_filter_features,
        "4 x 4 pixels": coarse_pixel_features,
    }
    return {"loss's network": collect_loss_features} | {
        name: make_judge(features) for name, features in feature_functions.items()
    }


def collect_loss_features(images):
    """Statistics of the features that the loss uses."""
    return frechet.collect(to_uint8_arrays(images), extractor=OFFLINE)


def make_judge(features):
    """What makes statistics of images by features of one's own."""
    return torch.no_grad()(lambda images: frechet.collect(features(images).numpy(), features=True))


def score_by_judges(images, reference, judges):
    """The score of images by each judge; `reference` holds the same judges' statistics of photographs."""
    return {
        name: frechet.score(collect_statistics(images), reference[name])["fd"]
        for name, collect_statistics in judges.items()
    }


# Pictures


def plot_samples(rows, columns=16):
    """A strip of images for each name."""
    figure, axes = plt.subplots(len(rows), 1, figsize=(10, 1.45 * len(rows)), layout="constrained", dpi=100)
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        strips = [torch.cat(list(images[start : start + columns]), dim=2) for start in (0, columns)]
        axis.imshow(torch.cat(strips, dim=1).permute(1, 2, 0).numpy())
        axis.set_title(name, loc="left", fontsize=10)
        axis.axis("off")
    return figure


def plot_curve(curve):
    """The loss of each step's batch."""
    figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained", dpi=100)
    axis.plot(curve, linewidth=2.5)
    axis.set(xlabel="steps of Adam", ylabel="Fréchet distance", ylim=(0, None))
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def plot_scores(scores_by_images):
    """For each judge the corrected distances with their intervals, as shares of the first one's."""
    figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained", dpi=100)
    first = next(iter(scores_by_images.values()))
    for series, (images_name, scores) in enumerate(scores_by_images.items()):
        axis.plot([], [], "o", color=f"C{series}", label=images_name)
        for row, (name, score) in enumerate(scores.items()):
            if score.interval_95 is not None:
                unit = first[name].corrected_value
                low, high = (max(end, 1e-4 * unit) for end in score.interval_95)
                where, colour = row + 0.22 * (series - 1), f"C{series}"
                axis.plot([low / unit, high / unit], [where, where], color=colour, linewidth=3, alpha=0.5)
                axis.plot(score.corrected_value / unit, where, "o", color=colour)
    axis.set_yticks(range(len(first)), first)
    axis.invert_yaxis()
    axis.axvline(1, color="#8a8a8a", linestyle="--", zorder=0)
    axis.set(
        xscale="log",
        xlabel="corrected distance to fresh photographs, as a multiple of that before, with its 95 % interval",
    )
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def format_table(scores_by_images):
    """The same as text, with the classical values."""
    lines = [f"{'features':<20}{'images':<22}{'classical':>10}{'corrected':>11}   95 %"]
    for name in next(iter(scores_by_images.values())):
        for images_name, scores in scores_by_images.items():
            score = scores[name]
            line = f"{name:<20}{images_name:<22}{score.value:>10.4g}"
            if score.interval_95 is not None:
                line += f"{score.corrected_value:>11.4g}   {score.interval_95[0]:.4g} to {score.interval_95[1]:.4g}"
            lines.append(line)
    return "\n".join(lines)

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
from frechet.demo.photographs import EVERYDAY, patches

OFFLINE = "efficientnet-lite0"  # the extractor whose trained weights need no download
LATENTS = 64


@dataclass(frozen=True)
class Size:
    """How much of everything: photographs a side, epochs of both small networks, steps of `finetune` and their images."""

    photographs: int
    epochs: int
    steps: int
    batch: int


FULL = Size(photographs=2000, epochs=20, steps=20, batch=64)
SMALL = Size(photographs=32, epochs=1, steps=2, batch=6)


# The data


def photographs(n, seed):
    """(n, 3, 32, 32) in 0..1: patches of seven photographs in turn."""
    return functional.avg_pool2d(torch.from_numpy(patches(EVERYDAY, n, seed)).permute(0, 3, 1, 2) / 255, 3)


def as_arrays(images):
    """The same as (n, 32, 32, 3) uint8, as files would hold them."""
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()


# The generator, and the plain loss that it starts from


class Generator(nn.Sequential):
    """(n, 64) standard normal -> (n, 3, 32, 32) in 0..1. No batch norm: an image must not depend on its batch."""

    def __init__(self):
        super().__init__(
            nn.Linear(LATENTS, 128 * 16),
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


def small_network(outputs):
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
    generator, encoder = Generator(), small_network(2 * LATENTS)
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


def finetune(generator, loss, *, steps, batch, rate=1e-3):
    """Train the generator on the loss of `batch` fresh images a step; the loss of each step comes back."""
    adam = torch.optim.Adam(generator.parameters(), lr=rate)
    curve = []
    for step in range(steps):
        latents = torch.randn(batch, LATENTS)
        adam.zero_grad()
        distance = loss.backward_in_microbatches(lambda start, stop: generator(latents[start:stop]), batch)  # noqa: B023
        adam.step()
        curve.append(distance.item())
        print(f"step {step:3}  {curve[-1]:.4g}", flush=True)
    return curve


@torch.no_grad()
def samples(generator, n, seed):
    """(n, 3, 32, 32) of fresh latents."""
    return generator(torch.randn(n, LATENTS, generator=torch.Generator().manual_seed(seed)))


# The judges


def train_classifier(images, *, epochs):
    """Features of a network that learned which of the seven photographs a patch is from; its last layer is left out."""
    labels = torch.arange(len(images)) % len(EVERYDAY)
    body, head = small_network(96), nn.Sequential(nn.ReLU(), nn.Linear(96, len(EVERYDAY)))
    adam = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=1e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(64):
            adam.zero_grad()
            functional.cross_entropy(head(body(images[chosen])), labels[chosen]).backward()
            adam.step()
    return body


def random_filters(images):
    """Texture: how strongly 96 random filters of 5 x 5 pixels answer, on average."""
    filters = torch.randn(96, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return functional.conv2d(images, filters - filters.mean(dim=(1, 2, 3), keepdim=True)).relu().mean(dim=(2, 3))


def coarse_pixels(images):
    """Colours and coarse shapes: the images at 4 x 4 pixels."""
    return functional.avg_pool2d(images, 8).flatten(1)


def judges_for(images, *, epochs):
    """Name -> how that judge sees images: the loss's own network, and three that the loss does not use."""
    seen_by = {
        "classifier": train_classifier(images, epochs=epochs),
        "random filters": random_filters,
        "4 x 4 pixels": coarse_pixels,
    }
    return {"loss's network": as_the_loss} | {name: statistics_of(features) for name, features in seen_by.items()}


def as_the_loss(images):
    """Statistics of the features that the loss uses."""
    return frechet.collect(as_arrays(images), extractor=OFFLINE)


def statistics_of(features):
    """What makes statistics of images by features of one's own."""
    return torch.no_grad()(lambda images: frechet.collect(features(images).numpy(), features=True))


def judge(images, reference, judges):
    """The score of images by each judge; `reference` holds the same judges' statistics of photographs."""
    return {name: frechet.score(look(images), reference[name])["fd"] for name, look in judges.items()}


# Pictures


def draw_samples(rows, columns=16):
    """A strip of images for each name."""
    figure, axes = plt.subplots(len(rows), 1, figsize=(10, 1.45 * len(rows)), layout="constrained", dpi=100)
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        strips = [torch.cat(list(images[start : start + columns]), dim=2) for start in (0, columns)]
        axis.imshow(torch.cat(strips, dim=1).permute(1, 2, 0).numpy())
        axis.set_title(name, loc="left", fontsize=10)
        axis.axis("off")
    return figure


def draw_curve(curve):
    """The loss of each step's batch."""
    figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained", dpi=100)
    axis.plot(curve, linewidth=2.5)
    axis.set(xlabel="steps of Adam", ylabel="Fréchet distance", ylim=(0, None))
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def draw_verdicts(verdicts):
    """For each judge the corrected distances with their intervals, as shares of the first one's."""
    figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained", dpi=100)
    first = next(iter(verdicts.values()))
    for place, (who, scores) in enumerate(verdicts.items()):
        axis.plot([], [], "o", color=f"C{place}", label=who)
        for row, (name, score) in enumerate(scores.items()):
            if score.interval_95 is not None:
                unit = first[name].corrected_value
                low, high = (max(end, 1e-4 * unit) for end in score.interval_95)
                where, colour = row + 0.22 * (place - 1), f"C{place}"
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


def table(verdicts):
    """The same as text, with the classical values."""
    lines = [f"{'features':<20}{'images':<22}{'classical':>10}{'corrected':>11}   95 %"]
    for name in next(iter(verdicts.values())):
        for who, scores in verdicts.items():
            score = scores[name]
            line = f"{name:<20}{who:<22}{score.value:>10.4g}"
            if score.interval_95 is not None:
                line += f"{score.corrected_value:>11.4g}   {score.interval_95[0]:.4g} to {score.interval_95[1]:.4g}"
            lines.append(line)
    return "\n".join(lines)

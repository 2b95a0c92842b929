"""Functions for train_on_fd.ipynb, which asks if a generator improves when the Fréchet distance is its loss.

A small variational autoencoder is trained on patches of photographs. Its decoder is then fine-tuned to lower the Fréchet
distance of EfficientNet-Lite0 features, of each batch or of a population, and evaluated by that distance and by features that the
losses do not use.
"""

from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional

import frechet
from frechet.demo.photographs import NATURAL_PHOTOGRAPHS, sample_patches
from frechet.features.registry import EXTRACTORS, register_extractor

NETWORK = "efficientnet-lite0-64"  # with trained weights that need no download
LATENT_DIM = 64

# 64 x 64 pixels instead of 224 x 224 are enough for images of 32 x 32, and twelve times as fast
register_extractor(NETWORK, replace(EXTRACTORS["efficientnet-lite0"], input_size=64))


@dataclass(frozen=True)
class Budget:
    """Size of the experiment.

    Attributes:
        photographs: number of images per set.
        epochs: number of epochs of the small networks.
        steps, batch: number of steps of `finetune`, and of images per step.
        population: number of images of the population of FDLoss.
        evaluate_every: number of steps between evaluations.
    """

    photographs: int
    epochs: int
    steps: int
    batch: int
    population: int
    evaluate_every: int


FULL_BUDGET = Budget(photographs=2000, epochs=4, steps=24, batch=64, population=2560, evaluate_every=12)
SMALL_BUDGET = Budget(photographs=32, epochs=1, steps=2, batch=6, population=12, evaluate_every=1)


# The data


def load_photographs(n, seed):
    """Return patches of seven photographs, (n, 3, 32, 32) in [0, 1]; patch i comes from photograph i mod 7."""
    return functional.avg_pool2d(
        torch.from_numpy(sample_patches(NATURAL_PHOTOGRAPHS, n, seed)).permute(0, 3, 1, 2) / 255, 3
    )


def to_uint8_arrays(images):
    """Convert images (n, 3, h, w) in [0, 1] to uint8 arrays (n, h, w, 3)."""
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()


# The generator and its pretraining


class Generator(nn.Sequential):
    """Map latents (n, 64) to images (n, 3, 32, 32) in [0, 1], without batch norm, so that images are independent."""

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
    """Return a small convolutional network, (n, 3, 32, 32) -> (n, outputs)."""
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
    """Return the decoder of a variational autoencoder trained on images (n, 3, 32, 32) with a squared error."""
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


def finetune(generator, loss, *, steps, batch, learning_rate=3e-4, after_step=lambda _: None):
    """Train the generator on `batch` new images per step, and return the distance of each step."""
    adam = torch.optim.Adam(generator.parameters(), lr=learning_rate)
    curve = []
    for step in range(1, steps + 1):
        latents = torch.randn(batch, LATENT_DIM)
        adam.zero_grad()
        distance = loss.backward_in_microbatches(lambda start, stop: generator(latents[start:stop]), batch)  # noqa: B023
        adam.step()
        curve.append(distance.item())
        after_step(step)
    return curve


@torch.no_grad()
def fill_population(loss, generator, n):
    """Add n images of the generator to the population of an FDLoss."""
    for latents in torch.randn(n, LATENT_DIM).split(64):
        loss.observe(generator(latents))


@torch.no_grad()
def generate_samples(generator, n, seed):
    """Return images (n, 3, 32, 32) from seeded latents."""
    return generator(torch.randn(n, LATENT_DIM, generator=torch.Generator().manual_seed(seed)))


# The judges


def train_classifier(images, *, epochs):
    """Return a network trained to recognise the photograph of a patch, without its last layer."""
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
    """Return mean responses of 96 random 5 x 5 filters, (n, 96), which describe texture."""
    filters = torch.randn(96, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return functional.conv2d(images, filters - filters.mean(dim=(1, 2, 3), keepdim=True)).relu().mean(dim=(2, 3))


def coarse_pixel_features(images):
    """Return images at 4 x 4 pixels, (n, 48), which describe colours and coarse shapes."""
    return functional.avg_pool2d(images, 8).flatten(1)


def make_judges(images, *, epochs):
    """Return {name: function from images to statistics}: the network of the loss, and three that the losses do not use."""
    feature_functions = {
        "classifier": train_classifier(images, epochs=epochs),
        "random filters": random_filter_features,
        "4 x 4 pixels": coarse_pixel_features,
    }
    return {"loss's network": collect_loss_features} | {
        name: make_judge(features) for name, features in feature_functions.items()
    }


def collect_loss_features(images):
    """Return statistics of the features that the losses use."""
    return frechet.collect(to_uint8_arrays(images), extractor=NETWORK)


def make_judge(features):
    """Return a function from images to statistics of the given features."""
    return torch.no_grad()(lambda images: frechet.collect(features(images).numpy(), features=True))


def score_by_judges(images, reference, judges):
    """Return the score of images by each judge; `reference` maps each judge to its statistics of photographs."""
    return {
        name: frechet.score(collect_statistics(images), reference[name])["fd"]
        for name, collect_statistics in judges.items()
    }


# Figures


def plot_samples(rows, columns=16):
    """Plot two rows of images for each name."""
    figure, axes = plt.subplots(len(rows), 1, figsize=(10, 1.45 * len(rows)), layout="constrained", dpi=100)
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        strips = [torch.cat(list(images[start : start + columns]), dim=2) for start in (0, columns)]
        axis.imshow(torch.cat(strips, dim=1).permute(1, 2, 0).numpy())
        axis.set_title(name, loc="left", fontsize=10)
        axis.axis("off")
    return figure


def plot_curves(curves):
    """Plot the distance of each step of several losses."""
    figure, axes = plt.subplots(1, len(curves), figsize=(9, 2.6), layout="constrained", dpi=100)
    for axis, (name, curve) in zip(axes, curves.items(), strict=True):
        axis.plot(range(1, len(curve) + 1), curve, linewidth=2.5)
        axis.set_title(name, loc="left", fontsize=10)
        axis.set(xlabel="steps of Adam", ylabel="Fréchet distance", ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def plot_histories(histories, batch):
    """Plot the bias-corrected distances of each judge with their 95 % intervals against the number of images trained on.

    `histories` maps each loss to its scores by step.
    """
    judges = next(iter(next(iter(histories.values())).values()))
    figure, axes = plt.subplots(1, len(judges), figsize=(12, 2.8), layout="constrained", dpi=100)
    for axis, judge in zip(axes, judges, strict=True):
        for name, scores_by_step in histories.items():
            scores = {batch * step: scores[judge] for step, scores in scores_by_step.items()}
            known = {n: score for n, score in scores.items() if score.interval_95 is not None}
            (line,) = axis.plot(list(known), [score.corrected_value for score in known.values()], label=name)
            low, high = (
                [score.interval_95[0] for score in known.values()],
                [score.interval_95[1] for score in known.values()],
            )
            axis.fill_between(list(known), low, high, color=line.get_color(), alpha=0.25, linewidth=0)
        axis.set_title(judge, loc="left", fontsize=10)
        axis.set(xlabel="images", ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("corrected distance")
    axes[0].legend(frameon=False)
    return figure


def plot_scores(scores_by_images):
    """Plot the bias-corrected distances of each judge with their intervals, relative to the first set of images."""
    figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained", dpi=100)
    first = next(iter(scores_by_images.values()))
    for series, (images_name, scores) in enumerate(scores_by_images.items()):
        axis.plot([], [], "o", color=f"C{series}", label=images_name)
        for row, (name, score) in enumerate(scores.items()):
            if score.interval_95 is not None:
                unit = first[name].corrected_value
                low, high = (max(end, 1e-4 * unit) for end in score.interval_95)
                y, color = row + 0.18 * (series - 1.5), f"C{series}"
                axis.plot([low / unit, high / unit], [y, y], color=color, linewidth=3, alpha=0.5)
                axis.plot(score.corrected_value / unit, y, "o", color=color)
    axis.set_yticks(range(len(first)), first)
    axis.invert_yaxis()
    axis.axvline(1, color="#8a8a8a", linestyle="--", zorder=0)
    axis.set(
        xscale="log",
        xlabel="corrected distance to fresh photographs, as a multiple of that before, with its 95 % interval",
    )
    figure.legend(loc="outside upper right", ncols=4, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def format_table(scores_by_images):
    """Return the scores as a text table: plain and bias-corrected values, and 95 % confidence intervals."""
    lines = [f"{'features':<20}{'images':<22}{'plain':>10}{'corrected':>11}   95 %"]
    for name in next(iter(scores_by_images.values())):
        for images_name, scores in scores_by_images.items():
            score = scores[name]
            line = f"{name:<20}{images_name:<22}{score.value:>10.4g}"
            if score.interval_95 is not None:
                line += f"{score.corrected_value:>11.4g}   {score.interval_95[0]:.4g} to {score.interval_95[1]:.4g}"
            lines.append(line)
    return "\n".join(lines)

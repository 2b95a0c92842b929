"""Train a small denoiser of photo patches with Flax and Optax, and compute FID every few steps on the devices.

    pip install 'frechet[jax,offline]' flax optax
    python examples/jax_training_loop.py [--steps 200] [--every 50] [--extractor efficientnet-lite0]

On several hosts, call `jax.distributed.initialize()` and run the script with a share of the data on each of them.
"""

from __future__ import annotations

import argparse
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import frechet.jax


class Denoiser(nn.Module):
    """Three convolutions that predict a correction of a noisy image."""

    @nn.compact
    def __call__(self, x):
        """Denoise images (n, h, w, 3)."""
        hidden = x
        for width in (32, 32):
            hidden = nn.relu(nn.Conv(width, (3, 3))(hidden))
        return x + nn.Conv(3, (3, 3))(hidden)


def load_patches(size: int = 32, count: int = 512) -> np.ndarray:
    """Return crops of photographs of scikit-image, (count, size, size, 3) float32 in [0, 1]."""
    import skimage.data

    random = np.random.default_rng(0)
    photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    patches = []
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        top, left = (random.integers(0, length - size) for length in photograph.shape[:2])
        patches.append(photograph[top : top + size, left : left + size])
    return np.stack(patches).astype(np.float32) / 255


def add_noise(key: jax.Array, clean: jax.Array) -> jax.Array:
    """Add Gaussian noise with a standard deviation of 0.2."""
    return clean + 0.2 * jax.random.normal(key, clean.shape)


def main() -> None:
    """Train the model and print the distance of its images during training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=50, help="Number of steps between evaluations.")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=512, help="Number of images per evaluation.")
    parser.add_argument("--extractor", default="efficientnet-lite0")
    args = parser.parse_args()
    data = load_patches(count=args.images)
    model, optimizer = Denoiser(), optax.adam(1e-3)
    params = model.init(jax.random.key(0), data[:1])
    state = optimizer.init(params)

    apply, weights = frechet.jax.network(args.extractor)
    batches = [data[start : start + args.batch] for start in range(0, len(data), args.batch)]
    reference = frechet.jax.to_statistics(frechet.jax.collect(batches, apply, weights))

    @jax.jit
    def train(params, state, clean, key):
        def loss(params):
            return jnp.mean((model.apply(params, add_noise(key, clean)) - clean) ** 2)

        gradient = jax.grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    @partial(jax.jit, donate_argnames="stats")
    def evaluate(stats, params, weights, clean, key):
        generated = jnp.clip(model.apply(params, add_noise(key, clean)), 0, 1)
        return frechet.jax.update(stats, weights, generated)

    for step in range(args.steps + 1):
        if step % args.every == 0:
            stats = frechet.jax.empty(apply)
            for i, clean in enumerate(batches):
                stats = evaluate(stats, params, weights, clean, jax.random.key(10_000 + i))
            print(f"step {step}: {frechet.jax.fid(frechet.jax.merge_across_hosts(stats), reference)}", flush=True)
        params, state = train(params, state, batches[step % len(batches)], jax.random.key(step))


if __name__ == "__main__":
    main()

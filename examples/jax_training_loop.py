"""FID inside a Flax/Optax training loop: a small denoiser of photo patches, judged every few steps on the devices.

    pip install 'frechet[jax,offline]' flax optax
    python examples/jax_training_loop.py [--steps 200] [--every 50] [--extractor efficientnet-lite0]

On several hosts, each runs this script with its own share of the data after `jax.distributed.initialize()`.
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
    """Three convolutions that say what to add to a noisy image."""

    @nn.compact
    def __call__(self, x):
        """(n, h, w, 3) noisy images -> (n, h, w, 3), nearer to clean ones."""
        hidden = x
        for width in (32, 32):
            hidden = nn.relu(nn.Conv(width, (3, 3))(hidden))
        return x + nn.Conv(3, (3, 3))(hidden)


def load_patches(size: int = 32, count: int = 512) -> np.ndarray:
    """(count, size, size, 3) float32 in [0, 1], cut from photographs that come with scikit-image."""
    import skimage.data

    random = np.random.default_rng(0)
    photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    found = []
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        top, left = (random.integers(0, length - size) for length in photograph.shape[:2])
        found.append(photograph[top : top + size, left : left + size])
    return np.stack(found).astype(np.float32) / 255


def add_noise(key: jax.Array, clean: jax.Array) -> jax.Array:
    """Images with noise of a fifth of their range."""
    return clean + 0.2 * jax.random.normal(key, clean.shape)


def main() -> None:
    """Train, and print the distance of what the model makes as it goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=50, help="steps between evaluations")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=512, help="images of one evaluation")
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

"""Compute FID while a model trains with Hugging Face Accelerate, and log value and interval to its trackers.

    accelerate launch accelerate_loop.py reference.npz --tracker tensorboard

It runs on one device or many. `accelerator.log` passes a dictionary of numbers to the tracker selected: TensorBoard, MLflow
or W&B.
"""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from frechet.integrations.torchmetrics import FID

LATENT_DIM, BATCH_SIZE = 8, 16


def evaluate(accelerator, generator, fid, images):
    """Return FID of `images` generated images, distributed over the processes, as {name: number}."""
    generator.eval()
    fid.reset()
    with accelerator.split_between_processes(torch.randn(images, LATENT_DIM)) as latents, torch.no_grad():
        for batch in latents.to(accelerator.device).split(BATCH_SIZE):
            fid.update(generator(batch))
    generator.train()
    score = fid.score()  # on every process
    metrics = {"fid": score.value, "fid/corrected": score.corrected_value}
    if score.interval_95:
        metrics |= dict(zip(("fid/low", "fid/high"), score.interval_95, strict=True))
    return {name: number for name, number in metrics.items() if number is not None}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reference")
    parser.add_argument("--extractor", default="inception")
    parser.add_argument("--tracker")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    accelerator = Accelerator(log_with=args.tracker, project_dir="logs")
    accelerator.init_trackers("fid")
    set_seed(0)  # the same latents in every process, which takes its share of them
    generator = torch.nn.Sequential(
        torch.nn.Linear(LATENT_DIM, 3 * 32 * 32), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (3, 32, 32))
    )
    generator, optimizer = accelerator.prepare(generator, torch.optim.Adam(generator.parameters()))
    fid = FID(args.reference, extractor=args.extractor).to(accelerator.device)
    for epoch in range(args.epochs):
        with accelerator.split_between_processes(torch.randn(BATCH_SIZE, LATENT_DIM)) as latents:
            loss = generator(latents.to(accelerator.device)).square().mean()  # your loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        metrics = evaluate(accelerator, generator, fid, args.images)
        accelerator.log(metrics, step=epoch)
        accelerator.print(epoch, metrics)
    accelerator.end_training()


if __name__ == "__main__":
    main()

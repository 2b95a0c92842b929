"""FID while a model trains with Hugging Face Accelerate, on one device or many; value and interval go to its trackers.

    accelerate launch accelerate_loop.py reference.npz --tracker tensorboard

What a tracker gets is a dictionary of numbers: `accelerator.log` hands it to TensorBoard, MLflow or W&B, whichever is
installed and named.
"""

import argparse

import torch
from accelerate import Accelerator

from frechet.integrations.torchmetrics import FID

LATENT, BATCH = 8, 16


def evaluate(accelerator, generator, fid, images):
    """{name: number} of `images` generated ones, spread over the processes as evenly as they go."""
    generator.eval()
    fid.reset()
    mine = images // accelerator.num_processes + (accelerator.process_index < images % accelerator.num_processes)
    for start in range(0, mine, BATCH):
        latents = torch.randn(min(BATCH, mine - start), LATENT, device=accelerator.device)
        with torch.no_grad():
            fid.update(generator(latents))
    generator.train()
    score = fid.score()  # on every process
    numbers = {"fid": score.value, "fid/corrected": score.corrected_value}
    if score.interval_95:
        numbers |= dict(zip(("fid/low", "fid/high"), score.interval_95, strict=True))
    return {name: number for name, number in numbers.items() if number is not None}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reference")
    parser.add_argument("--extractor", default="inception")
    parser.add_argument("--tracker")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    accelerator = Accelerator(log_with=arguments.tracker, project_dir="logs")
    accelerator.init_trackers("fid")
    generator = torch.nn.Sequential(
        torch.nn.Linear(LATENT, 3 * 32 * 32), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (3, 32, 32))
    )
    generator, optimizer = accelerator.prepare(generator, torch.optim.Adam(generator.parameters()))
    fid = FID(arguments.reference, extractor=arguments.extractor).to(accelerator.device)
    for epoch in range(arguments.epochs):
        loss = generator(torch.randn(BATCH, LATENT, device=accelerator.device)).square().mean()  # your loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        numbers = evaluate(accelerator, generator, fid, arguments.images)
        accelerator.log(numbers, step=epoch)
        accelerator.print(epoch, numbers)
    accelerator.end_training()


if __name__ == "__main__":
    main()

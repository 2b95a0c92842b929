"""CIFAR-10 against its training images."""

from __future__ import annotations

from frechet.protocols.protocol import Measurement, Protocol, Published

PROTOCOLS = {
    "cifar10-train": Protocol(
        title="FID and IS against the 50,000 training images of CIFAR-10",
        source="Heusel et al. 2017, arXiv:1706.08500; torch-fidelity",
        measurements=(Measurement(metrics=("fid", "is@torch-fidelity"), preprocessing="tensorflow"),),
        n_generated=50_000,
        generated_size=32,
        n_reference=50_000,
        reference_title="the CIFAR-10 training images",
        published=(
            Published(
                model="the training images themselves", values={"is@torch-fidelity": 11.23678}, source="torch-fidelity"
            ),
        ),
    ),
}

"""A small training for several processes: ``torchrun --nproc-per-node 2 -m tests.support.training_together OUT``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from services.core.models.factory import create_model
from services.core.models.state import save_state
from services.core.training.finetune import LabelledImages, TrainingSettings, train
from services.core.training.peers import Peers
from services.trainer.torchpeers import started_together


def train_small(peers: Peers, device: str = "cpu") -> tuple[bytes, list[float]]:
    """Train the last layer of a small network; gives its weights and the losses by epoch."""
    random = np.random.default_rng(3)
    labels = np.arange(30) % 2
    images = (random.integers(0, 120, (30, 32, 32, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    model = create_model("customnet", 2, "none", seed=1)
    settings = TrainingSettings(
        epochs=3, batch_size=8, optimiser="sgd", learning_rate=0.05, cosine=False, train_backbone=False, flips=True
    )
    # Classes count alike by number already, so that a mean of shares is the mean of the whole.
    report = train(model, LabelledImages(images, labels), settings, device=device, peers=peers)
    return save_state(model), [one.train_loss for one in report.epochs]


def main() -> None:
    """Train with whoever was started together with this process; the first one writes what came of it."""
    with started_together() as (peers, _):
        weights, losses = train_small(peers)
        out = Path(sys.argv[1])
        (out / f"{peers.rank}-of-{peers.size}.safetensors").write_bytes(weights)
        (out / f"{peers.rank}.losses").write_text(repr(losses))


if __name__ == "__main__":
    main()

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.numpy

from services.core.errors import InvalidInputError
from services.core.training.peers import ALONE
from services.trainer.torchpeers import started_together
from tests.support.training_together import train_small


def test_two_processes_train_one_network_to_the_weights_that_one_process_trains_it_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, "-m", "tests.support.training_together", str(tmp_path)],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = ((tmp_path / f"{rank}-of-2.safetensors").read_bytes() for rank in (0, 1))
    assert first == second, "every process ends with the same weights"
    alone, losses = train_small(ALONE)
    together = safetensors.numpy.load(first)
    for name, values in safetensors.numpy.load(alone).items():
        assert together[name] == pytest.approx(values, abs=1e-5), name
    assert ast.literal_eval((tmp_path / "0.losses").read_text()) == pytest.approx(losses, abs=1e-5)
    assert ast.literal_eval((tmp_path / "1.losses").read_text()) == pytest.approx(losses, abs=1e-5)


def test_a_process_that_was_started_by_itself_is_alone() -> None:
    with started_together({}) as (peers, device):
        assert peers is ALONE
        assert device in ("cpu", "cuda")


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "x", "RANK": "0", "LOCAL_RANK": "0"},
    ],
)
def test_numbers_that_torchrun_would_not_set_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match="must"), started_together(environment):
        pass

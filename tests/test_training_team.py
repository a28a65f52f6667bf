"""Training in several processes; trainings that are killed at random moments and resumed."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tiny import BINS
from tiny_training import SAMPLED, SHORT, assert_same_run, build, same_tensors, stop_after, train

from audioae.errors import CheckpointError, SettingsError
from audioae.models import NetworkSettings
from audioae.models.checkpoint import read_tensors
from audioae.models.dense import DenseSettings
from audioae.training import Team, Trainer, TrainSettings, loop, process_group

needs_group = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)

PATIENCE = 60  # seconds until a test gives up
TOGETHER = dataclasses.replace(SHORT, batch_size=4)
DENSE = DenseSettings(
    num_bins=BINS, patch=4, widths=(16,), activation="identity"
)  # no BatchNorm: a mean of halves is the mean of all

PLAIN = dataclasses.replace(SAMPLED, bottleneck="plain")  # every process would draw its own samples


def context() -> ForkServerContext:
    """Children of a server that has torch loaded already: a start costs milliseconds instead of
    seconds.
    """
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(
        [
            "torch._dynamo",
            "torch.utils.data",
            "scipy.signal",
            "pystoi",
            "pytest",
            "audioae.training",
        ]
    )
    return forking


def child(
    work: Callable[..., None],
    rank: int,
    size: int,
    port: int,
    taken: Any,
    arguments: tuple[Any, ...],
) -> None:
    """One process of several, in the environment that torchrun would give it; `taken` counts its
    steps.
    """
    torch.set_num_threads(1)
    places = {
        "RANK": rank,
        "WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "LOCAL_RANK": rank,
    }
    os.environ.update({name: str(value) for name, value in places.items()})
    work(taken, *arguments)


class Together:
    """`size` processes that do the same work."""

    def __init__(self, size: int, work: Callable[..., None], *arguments: Any) -> None:
        forking, port = context(), free_port()
        self.taken = [forking.Value("i", 0) for _ in range(size)]
        each = [(work, rank, size, port, self.taken[rank], arguments) for rank in range(size)]
        self.processes = [forking.Process(target=child, args=its) for its in each]
        for process in self.processes:
            process.start()

    def kill_after(self, steps: int, seconds: float) -> None:
        """SIGKILL all so many seconds after so many steps."""
        self.wait(lambda: self.taken[0].value >= steps)
        time.sleep(seconds)
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def finish(self) -> None:
        """Wait for their end."""
        self.wait(lambda: False)
        assert [process.exitcode for process in self.processes] == [0] * len(self.processes)

    def wait(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not done() and any(process.is_alive() for process in self.processes):
            time.sleep(0.001)
            if time.monotonic() > end:
                for process in self.processes:
                    process.kill()
                pytest.fail(f"no end within {PATIENCE} s, after {self.taken[0].value} steps")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def train_and_save(taken: Any, data: Path, out: Path, settings: TrainSettings) -> None:
    """A training that writes its state after almost every step, so kills hit the writing too."""
    loop.SAVE_SECONDS = 0.01

    def count() -> bool:
        taken.value += 1
        return False

    train(data, out, settings, stop=count)


@pytest.mark.parametrize("size", [1, pytest.param(2, marks=needs_group)])
def test_three_kills_leave_the_result_bit_identical(
    size: int, prepared: Path, tmp_path: Path
) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)
    Together(size, train_and_save, prepared, tmp_path / "undisturbed", TOGETHER).finish()
    out = tmp_path / "run"
    for _ in range(3):
        begun = (
            read_tensors(out / "resume.safetensors")[1]["step"]
            if (out / "resume.safetensors").exists()
            else 0
        )
        run = Together(size, train_and_save, prepared, out, TOGETHER)
        run.kill_after(
            chance.randint(1, max(1, (SHORT.steps - begun) // 2)), chance.uniform(0, 0.03)
        )
        assert run.processes[0].exitcode == -signal.SIGKILL
    Together(size, train_and_save, prepared, out, TOGETHER).finish()
    assert read_tensors(out / "resume.safetensors")[1]["step"] == SHORT.steps
    assert_same_run(out, tmp_path / "undisturbed")


def train_and_tell(
    taken: Any, data: Path, out: Path, network: NetworkSettings, more: dict[str, Any]
) -> None:
    """A training, and the final state of this process."""
    rank = os.environ["RANK"]
    more = (
        {"stop": stop_after(more["stop"])} if rank == "1" and "stop" in more else {}
    )  # one process is told, all stop
    seen: list[Trainer] = []

    class Seen(Trainer):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            seen.append(self)

    loop.Trainer = Seen  # type: ignore[misc]
    rows = train(data, out, TOGETHER, network, **more)
    [trainer] = seen
    torch.save(
        (
            trainer.model.state_dict(),
            trainer.average.state_dict(),
            trainer.losses,
            trainer.step,
            len(rows),
        ),
        f"{out}-{rank}.pt",
    )


@needs_group
@pytest.mark.parametrize(
    ("network", "near"), [(DENSE, 0.01), (PLAIN, 0.5)], ids=["dense", "conv2d"]
)
def test_two_processes_agree_with_each_other_and_with_one(
    network: NetworkSettings, near: float, prepared: Path, tmp_path: Path
) -> None:
    """Weights and statistics are bit-identical in both, and close to those of one process."""
    Together(2, train_and_tell, prepared, tmp_path / "run", network, {}).finish()
    (weights, average, losses, step, rows), (others, another, same_losses, same_step, none) = (
        torch.load(tmp_path / f"run-{rank}.pt") for rank in (0, 1)
    )
    assert rows > 0 and none == 0 and step == same_step == SHORT.steps and losses == same_losses
    assert same_tensors(weights, others) and same_tensors(average, another)
    train(prepared, tmp_path / "alone", TOGETHER, network)
    alone = read_tensors(tmp_path / "alone" / "last.safetensors")[0]
    begun = build(network).state_dict()
    names = [name for name, value in alone.items() if value.is_floating_point()]
    # BatchNorm normalises each process's pairs by their own statistics, as everywhere; without it
    # the gradients are those of one process.
    away = max(float((average[name] - alone[name]).abs().max()) for name in names)
    assert away < near * max(float((alone[name] - begun[name]).abs().max()) for name in names)


@needs_group
def test_all_processes_stop_when_one_is_stopped(prepared: Path, tmp_path: Path) -> None:
    Together(2, train_and_tell, prepared, tmp_path / "run", SAMPLED, {"stop": 3}).finish()
    assert [torch.load(tmp_path / f"run-{rank}.pt")[3] for rank in (0, 1)] == [3, 3]
    Together(2, train_and_tell, prepared, tmp_path / "run", SAMPLED, {}).finish()
    Together(2, train_and_tell, prepared, tmp_path / "whole", SAMPLED, {}).finish()
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def speak(taken: Any, folder: Path) -> None:
    """Exchange values and errors."""
    with process_group() as team:
        assert team.size == 2 and team.leads == (team.rank == 0)
        assert team.gather(team.rank) == [0, 1]
        assert team.any(team.rank == 1) and not team.any(False)
        assert team.from_first(lambda: team.rank) == 0
        with pytest.raises(CheckpointError, match="gone"):  # in both
            team.from_first(lambda: read_tensors(folder / "gone"))
        numbers = [torch.tensor([1.0, 2.0]) * (1 + team.rank), torch.ones(2, 2).T * team.rank]
        team.mean_(numbers)
        assert numbers[0].tolist() == [1.5, 3.0] and numbers[1].tolist() == [[0.5, 0.5], [0.5, 0.5]]
        spoilt = torch.tensor([float("nan") if team.rank else 1.0])
        team.mean_([spoilt])
        assert torch.isnan(spoilt).all()


@needs_group
def test_a_team_exchanges_values_and_errors(tmp_path: Path) -> None:
    Together(2, speak, tmp_path).finish()


def test_one_process_needs_no_team() -> None:
    with process_group() as team:
        assert team == Team(0, 1) and team.leads
        assert (
            team.gather("x") == ["x"]
            and team.any(True)
            and not team.any(False)
            and team.from_first(lambda: 3) == 3
        )


def test_a_batch_must_divide_evenly() -> None:
    assert TOGETHER.share(2) == 2 and dataclasses.replace(TOGETHER, accumulate=2).share(2) == 2
    with pytest.raises(SettingsError, match="batch_size 4 does not divide among 3 processes"):
        TOGETHER.share(3)
    with pytest.raises(
        SettingsError, match="accumulate 3 does not divide the 2 pairs that each process takes"
    ):
        dataclasses.replace(TOGETHER, accumulate=3).share(2)

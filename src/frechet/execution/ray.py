"""A Ray cluster: actors that keep their network loaded, a part at a time, and others in the place of those that are lost."""

from __future__ import annotations

import io
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from frechet.errors import FrechetError, RequestError, Unreachable
from frechet.execution.chunks import AnyPart, Cut, read_part
from frechet.execution.settings import Settings
from frechet.execution.workers import extracted, job_of, opened_job, part_bytes
from frechet.features.extractor import LoadedExtractor

_AT_ONCE = 2  # parts that an actor has: one it computes, one it finds waiting
_WINDOW = 4  # parts for each actor that may be finished out of turn; with their size that bounds the object store
_LOSSES = 3  # of one part, with the actor that computed it


class Worker:
    """An actor: a network that stays loaded, and a source that stays open."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.settings = Settings(**job["settings"])
        self.extractor = self.settings.load(None, job["further"])
        self.cut = opened_job(job, self.extractor)

    def ready(self) -> None:
        """Done as soon as the actor is there."""

    def part(self, number: int) -> bytes:
        """The bytes of a part."""
        (part,) = extracted(self.cut, [number], self.settings, self.extractor)
        return part_bytes(part)


@dataclass
class _Crew:
    """The actors of a run, and what each of them is asked for.

    Attributes:
        job: what they are made with.
        idle: for each actor that is there, how many more parts it takes.
        asked: an answer that is awaited -> (its actor, the part's number; None where it is the actor itself).
        losses: how often each part was lost.
        demands: actor -> what Ray must have for it.
    """

    job: dict[str, Any]
    idle: dict[Any, int] = field(default_factory=dict)
    asked: dict[Any, tuple[Any, int | None]] = field(default_factory=dict)
    losses: Counter[int | None] = field(default_factory=Counter)
    demands: dict[Any, dict[str, float]] = field(default_factory=dict)

    def start(self, demand: dict[str, float]) -> None:
        """Ask for one more actor; it is there when Ray finds a place for it."""
        actor = ray.remote(Worker).options(**demand).remote(self.job)
        self.asked[actor.ready.remote()] = actor, None
        self.demands[actor] = demand

    def ask(self, todo: deque[int], limit: int) -> None:
        """Give actors that can take more the next parts, up to this number."""
        for actor in self.idle:
            while self.idle[actor] and todo and todo[0] < limit:
                self.idle[actor] -= 1
                number = todo.popleft()
                self.asked[actor.part.remote(number)] = actor, number

    def answer(self) -> tuple[list[int], int | None, bytes]:
        """Wait for what comes next: (parts that were lost and are to be asked for again, a part's number, its bytes).

        Raises:
            FrechetError: what an actor raised.
            Unreachable: a part is lost again and again.
        """
        (reference, *_), _ = ray.wait(list(self.asked), num_returns=1)
        actor, number = self.asked.pop(reference)
        try:
            data = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise _raised_by(error) from None
        except ray.exceptions.RayError as error:
            return self._lost(actor, number, error), None, b""
        self.idle[actor] = self.idle.get(actor, 0) + (1 if number is not None else _AT_ONCE)
        return [], number, data or b""

    def _lost(self, actor: Any, number: int | None, error: Exception) -> list[int]:
        """Another actor in the place of one that is gone; gives the parts that it had."""
        gone = {reference: other for reference, (owner, other) in self.asked.items() if owner == actor}
        for reference in gone:
            del self.asked[reference]
        self.idle.pop(actor, None)
        lost = [number, *gone.values()]
        for each in lost:
            self.losses[each] += 1
            if self.losses[each] > _LOSSES:
                what = "workers" if each is None else f"part {each}"
                raise Unreachable(f"{what} of the Ray cluster were lost {_LOSSES + 1} times: {error}") from error
        self.start(self.demands.pop(actor))
        return [each for each in lost if each is not None]

    def stop(self) -> None:
        """Let the actors go."""
        for actor in self.demands:
            ray.kill(actor)


def by_actors(
    cut: Cut, numbers: Sequence[int], settings: Settings, extractor: LoadedExtractor
) -> Generator[AnyPart, None, None]:
    """These parts in order, by an actor on each accelerator of the cluster, or on each node that has none.

    Raises:
        RequestError: no such cluster, or a source that its workers could not open.
        FrechetError: what an actor raised.
        Unreachable: a part was lost with its actor again and again.
    """
    if not numbers:
        return
    crew = _Crew(job_of(cut, settings, extractor))
    _connect(settings.ray_address)
    demands = _demands()
    todo, finished = deque(numbers), dict[int, bytes]()
    try:
        for demand in demands[: len(numbers)]:
            crew.start(demand)
        for turn, number in enumerate(numbers):
            limit = numbers[min(turn + _WINDOW * len(demands), len(numbers)) - 1] + 1
            while number not in finished:
                crew.ask(todo, limit)
                lost, answered, data = crew.answer()
                todo.extendleft(sorted(lost, reverse=True))
                if answered is not None:
                    finished[answered] = data
            yield read_part(io.BytesIO(finished.pop(number)))
    finally:
        crew.stop()


def _connect(address: str | None) -> None:
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray's and gRPC's errors have many names
        raise RequestError(f"no Ray cluster at {address or 'this machine'}: {error}") from error


def _demands() -> list[dict[str, float]]:
    """What each actor needs: an accelerator and its share of the cores, or all cores of a node that has none."""
    demands = list[dict[str, float]]()
    for node in ray.nodes():
        cores = int(node["Resources"].get("CPU", 0)) if node["Alive"] else 0
        accelerators = int(node["Resources"].get("GPU", 0))
        count = accelerators or 1
        if cores:
            demands += [{"num_cpus": max(1, cores // count), "num_gpus": min(1, accelerators)}] * count
    if not demands:
        raise RequestError("the Ray cluster has no node with cores")
    return demands


def _raised_by(error: Any) -> FrechetError:
    cause = error.cause
    if isinstance(cause, FrechetError):
        return cause
    return Unreachable(f"a worker of the Ray cluster failed: {error}")

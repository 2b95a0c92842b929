"""A Ray cluster: actors that keep their network loaded, a part at a time, and others in the place of those that are lost."""

from __future__ import annotations

import io
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from frechet.errors import FrechetError, RequestError, UnreachableError
from frechet.execution.chunks import Chunk, Partition, read_chunk
from frechet.execution.settings import Settings
from frechet.execution.workers import encode_chunk, extract_chunks, make_job, open_job
from frechet.features.extractor import LoadedExtractor

_CHUNKS_PER_ACTOR = 2  # parts that an actor has: one it computes, one it finds waiting
_REORDER_WINDOW = (
    4  # parts for each actor that may be finished out of turn; with their size that bounds the object store
)
_MAX_LOSSES = 3  # of one part, with the actor that computed it


class Worker:
    """An actor: a network that stays loaded, and a source that stays open."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.settings = Settings(**job["settings"])
        self.extractor = self.settings.load(None, job["extra_layers"])
        self.partition = open_job(job, self.extractor)

    def ready(self) -> None:
        """Done as soon as the actor is there."""

    def compute_chunk(self, chunk_index: int) -> bytes:
        """The bytes of a part."""
        (compute_chunk,) = extract_chunks(self.partition, [chunk_index], self.settings, self.extractor)
        return encode_chunk(compute_chunk)


@dataclass
class _ActorPool:
    """The actors of a run, and what each of them is asked for.

    Attributes:
        job: what they are made with.
        idle: for each actor that is there, how many more parts it takes.
        asked: an answer that is awaited -> (its actor, the part's number; None where it is the actor itself).
        losses: how often each part was lost.
        demands: actor -> what Ray must have for it.
    """

    job: dict[str, Any]
    free_slots: dict[Any, int] = field(default_factory=dict)
    pending: dict[Any, tuple[Any, int | None]] = field(default_factory=dict)
    loss_counts: Counter[int | None] = field(default_factory=Counter)
    actor_resources: dict[Any, dict[str, float]] = field(default_factory=dict)

    def start(self, resources: dict[str, float]) -> None:
        """Ask for one more actor; it is there when Ray finds a place for it."""
        actor = ray.remote(Worker).options(**resources).remote(self.job)
        self.pending[actor.ready.remote()] = actor, None
        self.actor_resources[actor] = resources

    def submit(self, queue: deque[int], limit: int) -> None:
        """Give actors that can take more the next parts, up to this number."""
        for actor in self.free_slots:
            while self.free_slots[actor] and queue and queue[0] < limit:
                self.free_slots[actor] -= 1
                chunk_index = queue.popleft()
                self.pending[actor.compute_chunk.remote(chunk_index)] = actor, chunk_index

    def wait_for_result(self) -> tuple[list[int], int | None, bytes]:
        """Wait for what comes next: (parts that were lost and are to be asked for again, a part's number, its bytes).

        Raises:
            FrechetError: what an actor raised.
            Unreachable: a part is lost again and again.
        """
        (reference, *_), _ = ray.wait(list(self.pending), num_returns=1)
        actor, chunk_index = self.pending.pop(reference)
        try:
            data = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise _unwrap_error(error) from None
        except ray.exceptions.RayError as error:
            return self._replace_actor(actor, chunk_index, error), None, b""
        self.free_slots[actor] = self.free_slots.get(actor, 0) + (1 if chunk_index is not None else _CHUNKS_PER_ACTOR)
        return [], chunk_index, data or b""

    def _replace_actor(self, actor: Any, chunk_index: int | None, error: Exception) -> list[int]:
        """Another actor in the place of one that is gone; gives the parts that it had."""
        gone = {reference: other for reference, (owner, other) in self.pending.items() if owner == actor}
        for reference in gone:
            del self.pending[reference]
        self.free_slots.pop(actor, None)
        lost = [chunk_index, *gone.values()]
        for each in lost:
            self.loss_counts[each] += 1
            if self.loss_counts[each] > _MAX_LOSSES:
                what = "workers" if each is None else f"part {each}"
                raise UnreachableError(
                    f"{what} of the Ray cluster were lost {_MAX_LOSSES + 1} times: {error}"
                ) from error
        self.start(self.actor_resources.pop(actor))
        return [each for each in lost if each is not None]

    def stop(self) -> None:
        """Let the actors go."""
        for actor in self.actor_resources:
            ray.kill(actor)


def collect_from_actors(
    partition: Partition, chunk_indices: Sequence[int], settings: Settings, extractor: LoadedExtractor
) -> Generator[Chunk, None, None]:
    """These parts in order, by an actor on each accelerator of the cluster, or on each node that has none.

    Raises:
        RequestError: no such cluster, or a source that its workers could not open.
        FrechetError: what an actor raised.
        Unreachable: a part was lost with its actor again and again.
    """
    if not chunk_indices:
        return
    pool = _ActorPool(make_job(partition, settings, extractor))
    _connect(settings.ray_address)
    actor_resources = _plan_actor_resources()
    queue, finished = deque(chunk_indices), dict[int, bytes]()
    try:
        for resources in actor_resources[: len(chunk_indices)]:
            pool.start(resources)
        for position, chunk_index in enumerate(chunk_indices):
            limit = chunk_indices[min(position + _REORDER_WINDOW * len(actor_resources), len(chunk_indices)) - 1] + 1
            while chunk_index not in finished:
                pool.submit(queue, limit)
                lost, answered, data = pool.wait_for_result()
                queue.extendleft(sorted(lost, reverse=True))
                if answered is not None:
                    finished[answered] = data
            yield read_chunk(io.BytesIO(finished.pop(chunk_index)))
    finally:
        pool.stop()


def _connect(address: str | None) -> None:
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray's and gRPC's errors have many names
        raise RequestError(f"no Ray cluster at {address or 'this machine'}: {error}") from error


def _plan_actor_resources() -> list[dict[str, float]]:
    """What each actor needs: an accelerator and its share of the cores, or all cores of a node that has none."""
    actor_resources = list[dict[str, float]]()
    for node in ray.nodes():
        cores = int(node["Resources"].get("CPU", 0)) if node["Alive"] else 0
        accelerators = int(node["Resources"].get("GPU", 0))
        count = accelerators or 1
        if cores:
            actor_resources += [{"num_cpus": max(1, cores // count), "num_gpus": min(1, accelerators)}] * count
    if not actor_resources:
        raise RequestError("the Ray cluster has no node with cores")
    return actor_resources


def _unwrap_error(error: Any) -> FrechetError:
    cause = error.cause
    if isinstance(cause, FrechetError):
        return cause
    return UnreachableError(f"a worker of the Ray cluster failed: {error}")

"""A Ray cluster: actors keep their network loaded and compute one chunk at a time; actors that are lost are replaced."""

from __future__ import annotations

import io
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from frechet._internal.telemetry import disable_ray_usage_stats
from frechet.errors import FrechetError, RequestError, UnreachableError
from frechet.execution.chunks import Chunk, Partition, read_chunk
from frechet.execution.settings import Settings
from frechet.execution.workers import encode_chunk, extract_chunks, load_job_extractor, make_job, open_job
from frechet.features.extractor import LoadedExtractor

_CHUNKS_PER_ACTOR = 2  # one that is being computed and one that waits
_REORDER_WINDOW = 4  # chunks per actor that may be finished out of order; bounds the size of the object store
_MAX_LOSSES = 3  # how often one chunk may be lost together with its actor


class Worker:
    """A Ray actor that keeps its network loaded and its source open."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.settings = replace(
            Settings(**job["settings"]), workers_kind="threads"
        )  # processes would start for each chunk
        self.extractor = load_job_extractor(job, self.settings)
        self.partition = open_job(job, self.extractor)

    def ready(self) -> None:
        """Return as soon as the actor has started."""

    def compute_chunk(self, chunk_index: int) -> bytes:
        """Return the bytes of a chunk."""
        (chunk,) = extract_chunks(self.partition, [chunk_index], self.settings, self.extractor)
        return encode_chunk(chunk)


@dataclass
class _ActorPool:
    """The actors of a run and their pending requests.

    Attributes:
        job: describes the run to new actors.
        free_slots: number of further chunks that each actor accepts.
        pending: actor and chunk index of each pending result; the index is None while the actor starts.
        loss_counts: how often each chunk was lost.
        actor_resources: the resources that Ray reserves for each actor.
    """

    job: dict[str, Any]
    free_slots: dict[Any, int] = field(default_factory=dict)
    pending: dict[Any, tuple[Any, int | None]] = field(default_factory=dict)
    loss_counts: Counter[int | None] = field(default_factory=Counter)
    actor_resources: dict[Any, dict[str, float]] = field(default_factory=dict)

    def start(self, resources: dict[str, float]) -> None:
        """Request one more actor; it starts when the cluster has free resources for it."""
        actor = ray.remote(Worker).options(**resources).remote(self.job)
        self.pending[actor.ready.remote()] = actor, None
        self.actor_resources[actor] = resources

    def submit(self, queue: deque[int], limit: int) -> None:
        """Submit the chunks at the head of the queue, with indices below `limit`, to actors with free slots."""
        for actor in self.free_slots:
            while self.free_slots[actor] and queue and queue[0] < limit:
                self.free_slots[actor] -= 1
                chunk_index = queue.popleft()
                self.pending[actor.compute_chunk.remote(chunk_index)] = actor, chunk_index

    def wait_for_result(self) -> tuple[list[int], int | None, bytes]:
        """Wait for the next result.

        Returns:
            Indices of the chunks that were lost and must be submitted again; index and bytes of a finished chunk, or None
            and no bytes.

        Raises:
            FrechetError: whatever an actor raised.
            UnreachableError: a chunk was lost too often.
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
        """Start another actor in place of a lost one; return the chunks that it had."""
        gone = {reference: other for reference, (owner, other) in self.pending.items() if owner == actor}
        for reference in gone:
            del self.pending[reference]
        self.free_slots.pop(actor, None)
        lost = [chunk_index, *gone.values()]
        for each in lost:
            self.loss_counts[each] += 1
            if self.loss_counts[each] > _MAX_LOSSES:
                subject = "workers" if each is None else f"chunk {each} and its worker"
                raise UnreachableError(
                    f"{subject} of the Ray cluster were lost {_MAX_LOSSES + 1} times ({error}). "
                    "See Ray's logs for the reason, e.g. too little memory."
                ) from error
        self.start(self.actor_resources.pop(actor))
        return [each for each in lost if each is not None]

    def stop(self) -> None:
        """Stop all actors."""
        for actor in self.actor_resources:
            ray.kill(actor)


def collect_from_actors(
    partition: Partition, chunk_indices: Sequence[int], settings: Settings, extractor: LoadedExtractor
) -> Generator[Chunk, None, None]:
    """Compute chunks with one actor per accelerator, or per node without accelerators, and yield them in order.

    Args:
        partition: the images.
        chunk_indices: the chunks to compute, ascending.
        settings: sent to the actors; `ray_address` locates the cluster.
        extractor: the loaded extractor of this process, whose weights the actors must have.

    Raises:
        RequestError: the cluster cannot be reached, or an actor cannot open the source.
        FrechetError: whatever an actor raised.
        UnreachableError: a chunk was lost too often.
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
    disable_ray_usage_stats()
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray and gRPC raise errors of many types
        raise RequestError(
            f"cannot connect to a Ray cluster at {address or 'this machine'} ({error}). "
            "Start one with `ray start --head`, or pass its address as --ray-address (ray_address=)."
        ) from error


def _plan_actor_resources() -> list[dict[str, float]]:
    """Return each actor's resources: one accelerator and its share of the cores, or all cores of a node without any."""
    actor_resources = list[dict[str, float]]()
    for node in ray.nodes():
        cores = int(node["Resources"].get("CPU", 0)) if node["Alive"] else 0
        accelerators = int(node["Resources"].get("GPU", 0))
        count = accelerators or 1
        if cores:
            actor_resources += [{"num_cpus": max(1, cores // count), "num_gpus": min(1, accelerators)}] * count
    if not actor_resources:
        raise RequestError("the Ray cluster has no node with CPU cores; add one, or start nodes with --num-cpus")
    return actor_resources


def _unwrap_error(error: Any) -> FrechetError:
    cause = error.cause
    if isinstance(cause, FrechetError):
        return cause
    return UnreachableError(f"a worker of the Ray cluster failed: {error}")

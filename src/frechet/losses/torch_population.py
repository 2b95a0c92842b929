"""The Fréchet distance of a population of features to a reference, of which each batch replaces a part."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from frechet.distances.gaussian import Gaussian
from frechet.distances.population import (
    MIN_RELATIVE_ROOT,
    PopulationMoments,
    TransportMap,
    compute_moments,
    is_outdated,
    linearised_distance,
    make_transport_map,
    mix,
    population_gradient,
)
from frechet.errors import MismatchError, RequestError
from frechet.features.identity_parts import describe_difference, get_parts, record_parts
from frechet.features.spec import FeatureSpec
from frechet.losses.torch_closed_form import evaluate
from frechet.losses.torch_digest import hash_tensors
from frechet.losses.torch_distance import compute_coupling
from frechet.losses.torch_exact import ExactModule
from frechet.losses.torch_memory import Memory

_NOT_COMPARED = {"reference", "replaced_share", "exact_distance", "staleness", "weights_parts"}


class PopulationDistance(ExactModule):
    """The squared Fréchet distance between a population, with the present batch in it, and a reference.

    Its state is the population and the transport map. In training mode, each batch becomes part of the population.

    Args:
        reference: mean, covariance and factor of the reference features, as tensors.
        memory: the population.
        spec: identifies the features, for the state dict.

    Attributes:
        staleness: 1 - the cosine between the gradients of the last batch before a refresh with the map used until then and with
            the new one: 0 for a map that is still exact, and NaN before the second refresh.
    """

    _stays_off_mps = True
    reference_mean: torch.Tensor
    reference_covariance: torch.Tensor

    def __init__(self, reference: Gaussian, memory: Memory, spec: FeatureSpec) -> None:
        super().__init__()
        self.memory, self.settings, self.spec = memory, memory.settings, spec
        for name in ("mean", "covariance", "factor"):
            self._register_constant(f"reference_{name}", getattr(reference, name))
        dims = len(reference.mean)
        self.register_buffer("map_matrix", torch.zeros(dims, dims, dtype=torch.float64))
        self.register_buffer("map_offset", torch.zeros((), dtype=torch.float64))
        self.replaced_share = float("inf")  # of the population, since the map was computed
        self.exact_distance = float("nan")  # when the map was computed
        self.staleness = float("nan")

    @property
    def reference(self) -> Gaussian:
        """The Gaussian of the reference."""
        return Gaussian(self.reference_mean, covariance=self.reference_covariance, factor=self.reference_factor)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the distance, differentiable with respect to features (n, d), float64.

        Raises:
            RequestError: the batch is larger than the population, or is computed a second time in a backward pass.
        """
        if self.training and torch._C._current_graph_task_id() != -1:  # -1 outside of a backward pass
            raise RequestError(
                "the loss was computed a second time in the backward pass, which would add the batch to the population twice; "
                "expected it outside of torch.utils.checkpoint. To save memory, pass gradient_checkpointing=True to the loss."
            )
        return evaluate(self._step, features)

    def observe(self, features: torch.Tensor) -> None:
        """Add features (n, d), float64, to the population without computing a distance."""
        step = self.memory.prepare(len(features))
        self.memory.add(features, step)
        self.replaced_share += step.share

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the state dict holds next to the tensors."""
        return {
            **asdict(self.spec),
            "weights_parts": get_parts(self.spec.weights),
            "memory": self.settings.memory,
            "size": self.settings.size,
            "decay": self.settings.decay,
            "reference": hash_tensors(self.reference_mean, self.reference_covariance).hex(),
            "replaced_share": self.replaced_share,
            "exact_distance": self.exact_distance,
            "staleness": self.staleness,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_extra_state` returned. If the reference was another one, the next step computes the map."""
        self.replaced_share, self.staleness = state["replaced_share"], state["staleness"]
        self.exact_distance = state["exact_distance"]
        if state["reference"] != self.get_extra_state()["reference"]:
            self.replaced_share = float("inf")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Load the state after checking that it belongs to the same features and population.

        Raises:
            MismatchError: it does not.
        """
        stored, own = state_dict.get(f"{prefix}_extra_state", {}), self.get_extra_state()
        record_parts(stored.get("weights"), stored.get("weights_parts"))
        keys = [key for key in sorted(stored.keys() - _NOT_COMPARED) if stored[key] != own.get(key)]
        if keys:
            advice = "Create the loss with the extractors, memory and population of the one that was saved."
            if keys == ["weights"]:
                advice += (
                    " If you are certain that its features are the same, set "
                    f"state[{f'{prefix}_extra_state'!r}]['weights'] = {own['weights']!r} before load_state_dict(state)."
                )
            differences = [
                f"{key} {stored[key]} instead of {own.get(key)}{describe_difference(stored[key], own.get(key)) if key == 'weights' else ''}"
                for key in keys
            ]
            raise MismatchError(
                f"the state is that of another population, with {', '.join(differences)}; expected one of the same features. {advice}"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _step(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the distance and its gradient, and add the batch to the population in training mode."""
        step = self.memory.prepare(len(features))
        moments = mix(step.rest, compute_moments(features), step.share)
        is_due = self._needs_map(moments, step.share, len(features))
        transport = self._compute_map(moments) if is_due else self._transport
        distance = linearised_distance(moments.to_gaussian(), self.reference, transport)
        gradient = self._compute_gradient(features, moments, step.share, transport)
        if self.training:
            if is_due:
                self.staleness = self._compute_staleness(features, moments, step.share, gradient)
                self.map_matrix, self.map_offset = transport
                self.exact_distance = float(distance)
            self.replaced_share = 0.0 if is_due else self.replaced_share + step.share
            self.memory.add(features, step)
        return distance, gradient

    @property
    def _transport(self) -> TransportMap:
        return TransportMap(self.map_matrix, self.map_offset)

    def _needs_map(self, moments: PopulationMoments, share: float, n: int) -> bool:
        if self.settings.is_due(self.replaced_share, share, n):
            return True
        distance = linearised_distance(moments.to_gaussian(), self.reference, self._transport)
        return bool(is_outdated(distance, self.exact_distance))

    def _compute_map(self, moments: PopulationMoments) -> TransportMap:
        reference = self.reference
        coupling = compute_coupling(moments.to_gaussian(), reference, min_relative_root=MIN_RELATIVE_ROOT)
        return make_transport_map(reference, coupling)

    def _compute_gradient(
        self, features: torch.Tensor, moments: PopulationMoments, share: float, transport: TransportMap
    ) -> torch.Tensor:
        weight = share / len(features)
        weights = weight / (1 - moments.weight_squares), weight
        return population_gradient(features, moments.to_gaussian(), self.reference, transport, weights)

    def _compute_staleness(
        self, features: torch.Tensor, moments: PopulationMoments, share: float, gradient: torch.Tensor
    ) -> float:
        if self.replaced_share == float("inf"):
            return float("nan")
        stale = self._compute_gradient(features, moments, share, self._transport)
        return float(1 - torch.cosine_similarity(stale.flatten(), gradient.flatten(), dim=0))

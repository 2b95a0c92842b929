"""The Fréchet distance of feature tensors, differentiable in PyTorch by its closed-form gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import (
    feature_gradient,
    is_well_conditioned,
    optimal_coupling,
    optimal_coupling_from_factors,
    squared_frechet_distance,
)
from frechet.errors import RequestError


def frechet_distance(x: torch.Tensor, y: torch.Tensor | Gaussian) -> torch.Tensor:
    """Compute the squared Fréchet distance between features, differentiable in both arguments.

    The gradient is the closed form of `frechet.distances.transport`: no decomposition is differentiated, so singular
    covariances (n < d, repeated images) are handled exactly. There is no second derivative.

    Args:
        x: features (n, d), float32 or float64, n >= 2.
        y: features (m, d), m >= 2, or a Gaussian, on the same device as x.

    Returns:
        A scalar with the dtype of x.

    Raises:
        RequestError: x and y are on different devices, or features are not floating point.
        MismatchError: x and y differ in d.
        TooFewImagesError: x or y has fewer than two rows.

    Examples:
        >>> x = torch.randn(10, 4, requires_grad=True)
        >>> frechet_distance(x, torch.randn(20, 4)).backward()
        >>> x.grad.shape
        torch.Size([10, 4])
    """
    features = y if isinstance(y, torch.Tensor) else None
    device = (y if isinstance(y, torch.Tensor) else y.mean).device
    if device != x.device:
        raise RequestError(
            f"x is on {x.device} and y is on {device}; move one of them, e.g. with x.to({str(device)!r})"
        )
    for name, array in (("x", x), ("y", features)):
        if array is not None and not array.is_floating_point():
            raise RequestError(f"{name} is {array.dtype}; expected floating-point features")
    return _FrechetDistance.apply(x, features, None if features is not None else y)


class _FrechetDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor | None, reference: Gaussian | None) -> torch.Tensor:  # type: ignore[override]
        features, other, q = (_as_float64(operand) for operand in (x, y, reference))
        p = Gaussian.from_features(features)
        if y is not None:
            q = Gaussian.from_features(other)
        coupling = optimal_coupling(p, q)
        squared = p.covariance is not None or q.covariance is not None
        if squared and not bool(is_well_conditioned(coupling)):
            coupling = optimal_coupling_from_factors(p.with_factor(), q.with_factor())
        gradients = [None, None]
        if ctx.needs_input_grad[0]:
            gradients[0] = feature_gradient(features, q.mean, coupling.onto_q).to(x.dtype)
        if y is not None and ctx.needs_input_grad[1]:
            gradients[1] = feature_gradient(other, p.mean, coupling.onto_p).to(y.dtype)
        ctx.save_for_backward(x, y, *gradients)
        return squared_frechet_distance(p, q, coupling).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> Any:  # type: ignore[override]
        x, y, *gradients = ctx.saved_tensors
        operands = zip((x, y), gradients, strict=True)
        return *(
            None if gradient is None else grad_output * _OnceDifferentiable.apply(operand, gradient)
            for operand, gradient in operands
        ), None


class _OnceDifferentiable(torch.autograd.Function):
    """Identity on a gradient that raises if it is differentiated, instead of treating the gradient as a constant."""

    @staticmethod
    def forward(_ctx: Any, _features: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient.clone()

    @staticmethod
    def backward(_ctx: Any, _grad_output: torch.Tensor) -> Any:  # type: ignore[override]
        raise RequestError(
            "the Fréchet distance has no second derivative, so its gradient cannot be part of a loss; call backward "
            "without create_graph=True, or penalise the features instead"
        )


def _as_float64(operand: Any) -> Any:
    """Convert features or a Gaussian to float64 if the device has it, since squaring float32 loses half of its digits."""
    if isinstance(operand, Gaussian):
        return replace(
            operand, **{name: _as_float64(getattr(operand, name)) for name in ("mean", "covariance", "factor")}
        )
    return operand if operand is None or operand.device.type == "mps" else operand.detach().double()

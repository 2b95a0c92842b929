"""The Fréchet distance of feature tensors, differentiable in PyTorch by its closed-form gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import (
    Coupling,
    feature_gradient,
    is_well_conditioned,
    optimal_coupling,
    optimal_coupling_from_factors,
    squared_frechet_distance,
)
from frechet.errors import NonFiniteFeaturesError, RequestError
from frechet.losses.torch_closed_form import make_forward_mode_error, make_vmap_error, reject_second_derivative


def frechet_distance(x: torch.Tensor, y: torch.Tensor | Gaussian) -> torch.Tensor:
    """Compute the squared Fréchet distance between features, differentiable in both arguments.

    The gradient is the closed form of `frechet.distances.transport`: no decomposition is differentiated, so singular
    covariances (n < d, repeated images) are handled exactly. Second and forward-mode derivatives are not available: both raise an error, and
    so does `torch.func.vmap`. `torch.func.grad` and `torch.func.vjp` work.

    Args:
        x: features (n, d), float32 or float64, n >= 2.
        y: features (m, d), m >= 2, or a Gaussian, on the same device as x.

    Returns:
        A scalar with the dtype of x.

    Raises:
        RequestError: x and y are on different devices, or are not floating-point tensors (n, d).
        NonFiniteFeaturesError: a feature is NaN or infinite, and its decomposition fails; on some devices, the value is NaN instead.
        MismatchError: x and y differ in d.
        TooFewImagesError: x or y has fewer than two rows.

    Examples:
        >>> x = torch.randn(10, 4, requires_grad=True)
        >>> frechet_distance(x, torch.randn(20, 4)).backward()
        >>> x.grad.shape
        torch.Size([10, 4])
    """
    operands: dict[str, Any] = {"x": x} if isinstance(y, Gaussian) else {"x": x, "y": y}
    for name, operand in operands.items():
        if not isinstance(operand, torch.Tensor) or operand.ndim != 2:
            given = (
                f"of shape {tuple(operand.shape)}"
                if isinstance(operand, torch.Tensor)
                else f"a {type(operand).__name__}"
            )
            raise RequestError(
                f"{name} is {given}; expected a tensor of features (n, d), one row per image. Convert arrays with torch.as_tensor({name})."
            )
    features = y if isinstance(y, torch.Tensor) else None
    device = (y if isinstance(y, torch.Tensor) else y.mean).device
    if device != x.device:
        raise RequestError(
            f"x is on {x.device} and y is on {device}; move one of them, e.g. with x.to({str(device)!r})"
        )
    for name, array in (("x", x), ("y", features)):
        if array is not None and not array.is_floating_point():
            raise RequestError(f"{name} is {array.dtype}; expected floating-point features")
    wanted = tuple(torch.is_grad_enabled() and array is not None and array.requires_grad for array in (x, features))
    value: torch.Tensor = _FrechetDistance.apply(x, features, None if features is not None else y, wanted)[0]
    return value


class _FrechetDistance(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        x: torch.Tensor, y: torch.Tensor | None, reference: Gaussian | None, wanted: tuple[bool, bool]
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Return the distance, and the gradients with respect to x and y that are wanted."""
        features, other, q = (_as_float64(operand) for operand in (x, y, reference))
        p = Gaussian.from_features(features)
        if y is not None:
            q = Gaussian.from_features(other)
        try:
            coupling = compute_coupling(p, q)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            # not beforehand, since reading the values would wait for the device
            _require_finite(x=x, y=y)
            raise
        gradient_x = feature_gradient(features, q.mean, coupling.onto_q).to(x.dtype) if wanted[0] else None
        gradient_y = (
            feature_gradient(other, p.mean, coupling.onto_p).to(y.dtype) if y is not None and wanted[1] else None
        )
        return squared_frechet_distance(p, q, coupling).to(x.dtype), gradient_x, gradient_y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        gradients = output[1:]
        ctx.mark_non_differentiable(*(each for each in gradients if each is not None))
        ctx.save_for_backward(*inputs[:2], *gradients)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor, *_unused: Any) -> Any:  # type: ignore[override]
        x, y, *gradients = ctx.saved_tensors
        return (
            *(
                None if gradient is None else grad_output * reject_second_derivative(operand, gradient)
                for operand, gradient in zip((x, y), gradients, strict=True)
            ),
            None,
            None,
        )

    @staticmethod
    def jvp(_ctx: Any, *_tangents: Any) -> Any:
        raise make_forward_mode_error()

    @staticmethod
    def vmap(_info: Any, _in_dims: Any, *_operands: Any) -> Any:
        raise make_vmap_error()


def _require_finite(**operands: torch.Tensor | None) -> None:
    """Raise NonFiniteFeaturesError if a row of features is NaN or infinite."""
    for name, rows in operands.items():
        if rows is not None and not bool((is_finite := torch.isfinite(rows).all(dim=1)).all()):
            raise NonFiniteFeaturesError(
                f"{name} contains NaN or infinity in row {int((~is_finite).int().argmax())} (counted from 0); expected finite features"
            )


def compute_coupling(p: Gaussian, q: Gaussian, **accuracy: float) -> Coupling:
    """Compute the transport from eigenvalues, or from singular values if eigenvalues lose too many digits.

    Args:
        p, q: Gaussians of the same dimension.
        **accuracy: `min_relative_root` of `is_well_conditioned`.
    """
    coupling = optimal_coupling(p, q)
    is_squared = p.covariance is not None or q.covariance is not None
    if is_squared and not bool(is_well_conditioned(coupling, **accuracy)):
        return optimal_coupling_from_factors(p.with_factor(), q.with_factor())
    return coupling


def _as_float64(operand: Any) -> Any:
    """Convert features or a Gaussian to float64 if the device has it, since squaring float32 loses half of its digits."""
    if isinstance(operand, Gaussian):
        return replace(
            operand, **{name: _as_float64(getattr(operand, name)) for name in ("mean", "covariance", "factor")}
        )
    return operand if operand is None or operand.device.type == "mps" else operand.detach().double()

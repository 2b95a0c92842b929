"""Autograd for values whose gradient is known in closed form, with errors where a transformation would be wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from frechet.errors import RequestError

ValueAndGradient = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def reject_second_derivative(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return a gradient with respect to x that raises if it is differentiated, instead of being treated as a constant."""
    guarded: torch.Tensor = _OnceDifferentiable.apply(x, gradient)
    return guarded


def evaluate(compute: ValueAndGradient, x: torch.Tensor) -> torch.Tensor:
    """Compute a value whose gradient with respect to x is computed with it.

    Args:
        compute: x -> (value, a scalar; gradient, with the shape of x). It may change state.
        x: a tensor.
    """
    value: torch.Tensor = _ClosedForm.apply(x, compute)[0]
    return value


def reject_vmap(images: torch.Tensor) -> torch.Tensor:
    """Return the images of a batch, which `torch.func.vmap` may not split."""
    whole: torch.Tensor = _WholeBatch.apply(images)
    return whole


def make_vmap_error() -> RequestError:
    """Return the error for a distance of a batch under `torch.func.vmap`."""
    return RequestError(
        "the distance was called under torch.func.vmap; it is a function of a whole batch, whose values it has to know. Call "
        "it once per batch."
    )


def make_forward_mode_error() -> RequestError:
    """Return the error for forward-mode differentiation."""
    return RequestError(
        "the Fréchet distance has no forward-mode derivative (torch.func.jvp, jacfwd, hessian); use backward, "
        "torch.func.grad or torch.func.vjp"
    )


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(x: torch.Tensor, compute: ValueAndGradient) -> tuple[torch.Tensor, torch.Tensor]:
        return compute(x.detach())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor, _unused: Any) -> Any:  # type: ignore[override]
        return grad_output * reject_second_derivative(*ctx.saved_tensors), None

    @staticmethod
    def jvp(_ctx: Any, *_tangents: Any) -> Any:
        raise make_forward_mode_error()

    @staticmethod
    def vmap(_info: Any, _in_dims: Any, *_operands: Any) -> Any:
        raise make_vmap_error()


class _OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(_x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save nothing: the function has no derivative."""

    @staticmethod
    def backward(_ctx: Any, _grad_output: torch.Tensor) -> Any:  # type: ignore[override]
        raise RequestError(
            "the Fréchet distance has no second derivative, so its gradient cannot be part of a loss; call backward "
            "without create_graph=True, or penalise the features instead"
        )

    @staticmethod
    def jvp(_ctx: Any, *_tangents: Any) -> Any:
        raise make_forward_mode_error()

    @staticmethod
    def vmap(_info: Any, in_dims: Any, _x: torch.Tensor, gradient: torch.Tensor) -> Any:
        return gradient.clone(), in_dims[1]


class _WholeBatch(torch.autograd.Function):
    @staticmethod
    def forward(images: torch.Tensor) -> torch.Tensor:
        return images.view_as(images)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """The identity needs nothing for its derivative."""

    @staticmethod
    def backward(_ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return grad_output

    @staticmethod
    def jvp(_ctx: Any, tangent: torch.Tensor) -> torch.Tensor:
        return tangent.view_as(tangent)

    @staticmethod
    def vmap(_info: Any, _in_dims: Any, _images: torch.Tensor) -> Any:
        raise make_vmap_error()

"""The shapes and types that annotations of frechet.distances promise are checked in this test run (see conftest.py)."""

import jaxtyping
import numpy as np
import pytest

from frechet.distances.gaussian import Gaussian
from frechet.distances.inception_score import inception_score
from frechet.distances.kernel import kid, polynomial_mmd
from frechet.distances.prdc import Neighbourhood, compute_prdc
from frechet.distances.transport import feature_gradient

X, Y = np.random.default_rng(0).standard_normal((2, 12, 5)).astype(np.float32)


def test_a_transposed_argument_is_rejected():
    assert kid(X, Y).standard_error > 0
    with pytest.raises(jaxtyping.TypeCheckError, match=r"parameter 'y'(.|\n)*f32\[5,12\]"):
        kid(X, Y.T)
    with pytest.raises(jaxtyping.TypeCheckError, match=r"parameter 'other_mean'(.|\n)*f32\[12\]"):
        feature_gradient(X, X.mean(axis=1), np.eye(5))


def test_other_types_are_rejected():
    with pytest.raises(jaxtyping.TypeCheckError, match=r"i64\[12,5\]"):
        compute_prdc(X, Y.astype(np.int64), [Neighbourhood(3, closed=True)])


def test_a_covariance_of_another_dimension_is_rejected():
    with pytest.raises(jaxtyping.TypeCheckError, match="covariance"):
        Gaussian(np.zeros(4), covariance=np.eye(5))


@pytest.mark.slow
@pytest.mark.parametrize("library", ["numpy", "torch", "jax.numpy"])
def test_arrays_of_each_library_are_accepted(library):
    xp = pytest.importorskip(library)
    x, y = (xp.asarray(z) for z in (X, Y))
    expected = polynomial_mmd(X.astype(np.float64), Y.astype(np.float64))
    assert float(polynomial_mmd(x, y)) == pytest.approx(float(expected), abs=1e-5)
    assert float(Gaussian.from_features(x).trace) == pytest.approx(X.var(axis=0, ddof=1).sum(), rel=1e-5)


@pytest.mark.slow
def test_tracers_of_jax_are_checked_like_arrays():
    jax = pytest.importorskip("jax")
    probabilities = jax.nn.softmax(jax.numpy.asarray(X))
    assert float(jax.jit(inception_score)(probabilities)) == pytest.approx(
        float(inception_score(probabilities)), rel=1e-5
    )
    with pytest.raises(jaxtyping.TypeCheckError, match="probabilities"):
        jax.jit(inception_score)(probabilities[0])

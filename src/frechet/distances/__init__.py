"""The mathematics of the metrics: pure functions on arrays.

Functions annotated with `Array` accept NumPy, PyTorch and JAX arrays and return arrays of the same library; those
annotated with `np.ndarray` use NumPy alone. Shapes and data types are jaxtyping annotations, e.g.
`Float[Array, "n d"]`, which the test suite checks at run time. Axes are named by the same letters everywhere:

    n   images of the first set, usually the generated images
    m   images of the second set, usually the reference images
    d   features, or dimensions of a latent
    k   neighbours, or singular values
    r   rows of a factor of a covariance, or rows of a sample of the features
    c   classes
    b   rows of a block or tile of a larger matrix
    p   pairs, or candidates
    l   random directions
"""

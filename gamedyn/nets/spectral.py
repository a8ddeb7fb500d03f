r"""Spectral normalisation: every weight divided by its largest singular value.

A kernel (kh, kw, inputs, outputs) counts as the matrix (kh kw inputs, outputs), as in
the paper; that is not the norm of the convolution as a linear map, which depends on the
size of the picture and may be larger by up to $\sqrt{kh\, kw}$. No state is carried
from call to call: the power iteration starts at a fixed vector, takes enough steps from
there, and is differentiated through.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.nets.net import Net, Params, Statistics, at_least_float32

_NORMALISED = ("kernel", "embedding")


def spectral_norm(kernel: jax.Array, *, squarings: int | None = 8) -> jax.Array:
    r"""Compute or estimate the largest singular value of a kernel.

    $$v = M^{2^k} v_0 / |M^{2^k} v_0|, \qquad \sigma = \sqrt{v^\top M v},$$

    M being the smaller one of $W^\top W$ and $W W^\top$, with W as in the module's
    text, and k the squarings: $2^k$ power iterations. The estimate is at most the true
    value; derivatives are those of the estimate itself.

    Args:
        kernel: a kernel of two axes or more, outputs last.
        squarings: k. With 8, matrices of independent normal numbers, a hard case, were
            off by less than 1e-3 up to 512 columns. `None` takes the largest
            eigenvalue of M: exact, slow on accelerators, and with derivatives only
            where that eigenvalue is simple.

    Returns:
        The singular value, a scalar, in float32 at least; 1 for a kernel of zeros.

    Raises:
        ValueError: if the kernel has fewer than two axes, or k is negative.

    Example:
        >>> print(f"{spectral_norm(jnp.diag(jnp.array([3.0, 1.0]))):.4f}")
        3.0000

    References:
        T. Miyato et al., Spectral Normalization for Generative Adversarial Networks,
        2018. <https://arxiv.org/abs/1802.05957>
    """
    if kernel.ndim < 2:
        raise ValueError(f"expected a kernel of two axes or more, got {kernel.shape}")
    if squarings is not None and squarings < 0:
        raise ValueError(f"expected no negative number of squarings, got {squarings}")
    matrix = at_least_float32(kernel).reshape(-1, kernel.shape[-1])
    rows, columns = matrix.shape
    matrix = matrix if rows >= columns else matrix.T
    gram = _product(matrix.T, matrix)
    # A kernel of zeros stays one, with derivatives.
    gram = jnp.where(jnp.trace(gram) > 0, gram, jnp.eye(len(gram), dtype=gram.dtype))
    if squarings is None:
        return jnp.sqrt(jnp.linalg.eigvalsh(gram)[-1])
    power = gram
    for _ in range(squarings):
        power = power / jnp.trace(power)
        power = _product(power, power)
    start = np.random.default_rng(0).normal(size=len(gram))
    v = _product(power, jnp.asarray(start, gram.dtype))
    return jnp.sqrt(_product(v, _product(gram, v)) / _product(v, v))


def spectrally_normalised(net: Net, *, squarings: int | None = 8) -> Net:
    r"""Divide all kernels and embeddings of a network by their `spectral_norm`.

    $$W \to W / \sigma(W).$$

    Args:
        net: the network; parameters called `kernel` or `embedding` are normalised,
            biases and the scales of normalisations are not.
        squarings: see `spectral_norm`.

    Returns:
        The network with the same parameters. To compute in bfloat16, apply `compute_in`
        to the result.

    References:
        T. Miyato et al., Spectral Normalization for Generative Adversarial Networks,
        2018. <https://arxiv.org/abs/1802.05957>
    """

    def normalise(path: Any, leaf: jax.Array) -> jax.Array:
        if getattr(path[-1], "key", None) not in _NORMALISED:
            return leaf
        sigma = spectral_norm(leaf, squarings=squarings)
        return leaf / sigma.astype(leaf.dtype)

    def normalised(params: Params) -> Params:
        return jax.tree_util.tree_map_with_path(normalise, params)

    def apply(params: Params, x: Any, *args: Any, statistics: Any = None) -> Any:
        return net.apply(normalised(params), x, *args, statistics=statistics)

    def statistics(params: Params, batches: Any) -> Statistics:
        assert net.statistics is not None  # for the type checker
        return net.statistics(normalised(params), batches)

    return net._replace(apply=apply, statistics=net.statistics and statistics)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    # Accelerators round the factors to fewer digits by default.
    return jnp.matmul(a, b, precision="highest")

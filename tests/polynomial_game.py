"""Random polynomial games with every derivative worked out in numpy.

With z all players' numbers in a row,

    l_i(z) = c_i z + B_i[z, z] / 2 + T_i[z, z, z] / 6 + sum_k w_ik (a_ik z)^4 / 24.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

import gamedyn as gd

SHAPES = {
    "two scalars": (np.zeros(()), np.zeros(())),
    "one player": ({"w": np.zeros((2, 2)), "b": np.zeros(2)},),
    "two pytrees": ({"w": np.zeros((2, 2)), "b": np.zeros(())}, [np.zeros(3)]),
    "three pytrees": (
        np.zeros(()),
        {"a": np.zeros(2), "b": [np.zeros((1, 2)), np.zeros(())]},
        (np.zeros(3), {}),
    ),
    "five players": tuple(np.zeros(size) for size in (1, 2, 1, 3, 2)),
}


def polynomial(coefficients, *params):
    linear, square, cube, weights, directions = coefficients
    z, _ = ravel_pytree(params)
    quartic = jnp.sum(weights * (directions @ z) ** 4) / 24
    return linear @ z + z @ square @ z / 2 + (cube @ z @ z) @ z / 6 + quartic


class PolynomialGame:
    """The game, a point, and the derivatives.

    `own` is added to everybody's own curvature; `degree` 2 leaves only the quadratic
    part, 4 everything. In a zero-sum game of two, l_2 = -l_1.
    """

    def __init__(
        self, name, *, degree=4, zero_sum=False, own=4.0, seed=0, dtype=np.float64
    ):
        rng = np.random.default_rng([seed, *map(ord, name)])
        template = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), SHAPES[name])
        flat, self.unravel = ravel_pytree(template)
        self.size = d = flat.size
        self.num_players = n = len(template)
        sizes = [ravel_pytree(player)[0].size for player in template]
        stops = np.cumsum([0, *sizes])
        self.blocks = [slice(a, b) for a, b in itertools.pairwise(stops)]
        square = rng.normal(size=(n, d, d))
        square = square + square.transpose(0, 2, 1)
        for i, block in enumerate(self.blocks):
            sign = -1 if zero_sum and i == 1 else 1
            player = 0 if zero_sum else i
            square[player, block, block] += sign * own * np.eye(d)[block, block]
        cube = rng.normal(size=(n, d, d, d)) / 4
        cube = sum(
            cube.transpose(0, *(1 + np.array(order)))
            for order in itertools.permutations(range(3))
        )
        weights = rng.normal(size=(n, 3)) / 4
        if degree == 2:
            cube, weights = 0 * cube, 0 * weights
        directions = rng.normal(size=(n, 3, d))
        arrays = [rng.normal(size=(n, d)), square, cube, weights, directions]
        if zero_sum:
            signs = np.array([1.0, -1.0])
            # The directions stay: their fourth powers carry the sign of the weights.
            for k in range(4):
                arrays[k] = np.einsum("i,...->i...", signs, arrays[k][0])
            arrays[4] = np.stack([directions[0]] * 2)
        # Both sides compute with the same numbers.
        self.parts = [array.astype(dtype).astype(np.float64) for array in arrays]
        losses = [
            Partial(polynomial, tuple(jnp.asarray(part[i], dtype) for part in arrays))
            for i in range(n)
        ]
        self.game = gd.zero_sum(losses[0]) if zero_sum else gd.general_sum(*losses)
        self.z = (rng.normal(size=d) / 2).astype(dtype).astype(np.float64)
        self.params = self.unravel(jnp.asarray(self.z, dtype))

    def slopes(self, z):
        """The gradients of all losses in all numbers, shape (n, d)."""
        linear, square, cube, weights, directions = self.parts
        along = directions @ z
        quartic = np.einsum("nk,nkd->nd", weights * along**3 / 6, directions)
        return linear + square @ z + cube @ z @ z / 2 + quartic

    def hessians(self, z):
        """The Hessians of all losses, shape (n, d, d)."""
        _, square, cube, weights, directions = self.parts
        along = directions @ z
        outer = np.einsum("nk,nkd,nke->nde", weights * along**2 / 2, *[directions] * 2)
        return square + cube @ z + outer

    def gradient(self, z):
        slopes = self.slopes(z)
        return np.concatenate([slopes[i, b] for i, b in enumerate(self.blocks)])

    def jacobian(self, z):
        hessians = self.hessians(z)
        return np.concatenate([hessians[i, b] for i, b in enumerate(self.blocks)])

    def parts_of_jacobian(self, z):
        """The block-diagonal part, and the cross blocks."""
        jacobian = self.jacobian(z)
        own = np.zeros_like(jacobian)
        for block in self.blocks:
            own[block, block] = jacobian[block, block]
        return own, jacobian - own

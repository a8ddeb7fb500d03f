"""The registered rules, one entry each."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gamedyn.geometry import entropic, euclidean, per_player, proximal
from gamedyn.rules.adaptive import (
    adaptive_mirror_prox,
    golden_ratio,
    universal_mirror_prox,
)
from gamedyn.rules.anchored import (
    anchored_descent,
    anchored_extragradient,
    decaying_anchor_extragradient,
    halpern,
)
from gamedyn.rules.base import Rule, check_geometry
from gamedyn.rules.competitive import (
    adaptive_competitive_gradient,
    competitive_gradient,
)
from gamedyn.rules.constrained import interior_point
from gamedyn.rules.extrapolation import (
    extragradient,
    fast_optimistic,
    optimistic,
    past_extragradient,
)
from gamedyn.rules.integrators import proximal_point, runge_kutta
from gamedyn.rules.registry import (
    EUCLIDEAN,
    PROJECTED,
    each,
    from_transformations,
    on_simplices,
    owned,
    register,
    wrapped,
    wrapped_from_transformations,
)
from gamedyn.rules.simplices import (
    fictitious_play,
    frank_wolfe,
    magnetic_mirror_descent,
    regret_matching,
    replicator,
)
from gamedyn.rules.splitting import (
    adaptive_golden_ratio,
    alex_gda,
    forward_backward_forward,
    forward_reflected_backward,
    projected_reflected_gradient,
)
from gamedyn.rules.stochastic import (
    compressed_descent,
    reshuffled,
    stochastic_hamiltonian,
)
from gamedyn.rules.turns import alternating, simultaneous
from gamedyn.rules.variance_reduction import (
    alternating_variance_reduced,
    check_components,
    extragradient_variance_reduced,
    forward_reflected_variance_reduced,
    loopless_svrgda,
    svre,
)
from gamedyn.rules.weak_minty import (
    bias_corrected_extragradient,
    curvature_extragradient,
    half_step_extragradient,
)
from gamedyn.rules.wrappers import anderson, averaged, lookahead, restarted
from gamedyn.transformations import complex_momentum, negative_momentum


def _alternating(
    step_size,
    *,
    num_players=2,
    geometry=euclidean,
    transformation=optax.sgd,
    **options,
):
    options = {"order": tuple(range(num_players)), **options}
    return alternating(*each(transformation, step_size), geometry=geometry, **options)


def _negative_momentum(step_size, *, num_players=2, geometry=euclidean, **options):
    del num_players
    optimizers = negative_momentum(step_size), optax.sgd(step_size)
    return alternating(*optimizers, geometry=geometry, **options)


def _extragradient_plus(step_size, *, num_players=2, geometry=euclidean, **options):
    del num_players
    return extragradient(
        optax.sgd(0.5 * step_size),
        extrapolation=optax.sgd(step_size),
        geometry=geometry,
        **options,
    )


def _double_step(step_size, *, num_players=2, geometry=euclidean, **options):
    del num_players

    def schedule(count: Any) -> jax.Array:
        dtype = jnp.result_type(float)
        decay = 2 / (count.astype(dtype) + 20)  # .1 * 20 / (t + 20)
        return jnp.asarray(step_size, dtype) * decay

    return extragradient(
        optax.sgd(schedule),
        extrapolation=optax.sgd(step_size),
        geometry=geometry,
        **options,
    )


def _inner_steps(
    step_size,
    *,
    num_players=2,
    geometry=euclidean,
    transformation=optax.sgd,
    steps=5,
    **options,
):
    del num_players
    order = (1,) * steps + (0,)
    return alternating(
        *each(transformation, step_size), order=order, geometry=geometry, **options
    )


def _time_scales(plain):
    """Make simultaneous steps, the second player's `ratio` times as long."""

    def make(step_size, *, num_players=2, geometry=euclidean, ratio=4.0, **options):
        del num_players
        steps = plain(step_size), plain(step_size * ratio)
        return simultaneous(*steps, geometry=geometry, **options)

    return make


def _primal_dual(
    step_size, *, num_players=2, geometry=euclidean, ratio=1.0, prox=None, **options
):
    """PDHG: steps h and `ratio` times h, and `prox`, one `prox(point, step)` each."""
    del num_players
    sizes = step_size, step_size * ratio
    if prox is not None:
        pairs = zip(per_player(prox, 2, "proximal map"), sizes, strict=True)
        geometry = tuple(proximal(one, size) for one, size in pairs)
    optimizers = map(optax.sgd, sizes)
    return alex_gda(*optimizers, gamma=2.0, delta=1.0, geometry=geometry, **options)


def _slingshot(step_size, *, num_players=2, geometry=euclidean, **options):
    del num_players
    check_geometry(geometry, EUCLIDEAN, "slingshot")

    def alternately(sign):
        def schedule(count: Any) -> Any:
            return jnp.where(count % 2 == 0, sign, -sign) * step_size

        return optax.sgd(schedule)

    rule = simultaneous(
        alternately(1.0), alternately(-1.0), geometry=geometry, **options
    )
    return rule._replace(period=2)


def _generalised_optimistic(
    step_size,
    *,
    num_players=2,
    geometry=euclidean,
    transformation=optax.sgd,
    ratio=0.75,
    **options,
):
    del num_players
    steps = each(transformation, step_size)
    return optimistic(*steps, optimism=ratio, geometry=geometry, **options)


def _alternating_optimistic(
    step_size, *, num_players=2, geometry=euclidean, ratio=0.5, **options
):
    """In turn; the first player's past weight is `ratio` times the step."""
    del num_players
    first = optax.optimistic_gradient_descent(step_size, alpha=1 - ratio, beta=ratio)
    return alternating(first, optax.sgd(step_size), geometry=geometry, **options)


def _momentum_extragradient(
    step_size, *, num_players=2, geometry=euclidean, momentum=-0.1, **options
):
    del num_players
    return extragradient(
        optax.sgd(step_size, momentum=momentum),
        extrapolation=optax.sgd(step_size),
        geometry=geometry,
        **options,
    )


def _stochastic_plus(step_size, *, num_players=2, geometry=euclidean, **options):
    del num_players

    def schedule(count: Any) -> jax.Array:
        dtype = jnp.result_type(float)
        return jnp.asarray(step_size, dtype) * (0.5 / (count.astype(dtype) + 1))

    return extragradient(
        optax.sgd(schedule),
        extrapolation=optax.sgd(step_size),
        geometry=geometry,
        **{"resample": True, **options},
    )


def _nested_lookahead(rule: Rule, *, periods=(5, 50), strengths=(0.5, 0.5)) -> Rule:
    for period, strength in zip(periods, strengths, strict=True):
        rule = lookahead(rule, period=period, strength=strength)
    return rule


def _anderson(step_size, *, num_players=2, geometry=euclidean, **options):
    check_geometry(geometry, EUCLIDEAN, "anderson")
    return anderson(
        _alternating(step_size, num_players=num_players, geometry=geometry), **options
    )


def _reshuffled_extragradient(
    step_size,
    *,
    num_players=2,
    geometry=euclidean,
    transformation=optax.sgd,
    **options,
):
    del num_players
    inner = extragradient(*each(transformation, step_size), geometry=geometry)
    return reshuffled(inner, **options)


def _without_step(builder, average=None):
    """Make a rule on simplices that has no step size: the number is not looked at."""

    def make(step_size, *, num_players=2, geometry=entropic, **options):
        del step_size, num_players, geometry
        rule = builder(**options)
        return rule if average is None else averaged(rule, kind=average)

    return make


def _with_step(builder):
    """Make a rule on simplices from its step size, whatever the geometry."""

    def make(step_size, *, num_players=2, geometry=entropic, **options):
        del num_players, geometry
        return builder(step_size, **options)

    return make


def _vr_diana(step_size, *, num_components=None, **options):
    check_components(num_components, "vr_diana")
    return compressed_descent(
        step_size, memory=True, num_components=num_components, **options
    )


def _newton_evaluations(size: int) -> int:
    """Count one Newton step: its residual before and after, and a dense Jacobian."""
    return size + 2


# A partial gradient runs through its own forward pass: those of two players cost more
# than their joint gradient.
_IN_TURN = 1.21
# One Newton step with one step of GMRES: values, linearisation, products, updates.
_NEWTON = 9.6

# Who moves when.

register(
    "simultaneous",
    "moves in turn or at once",
    from_transformations(simultaneous),
    "all players step at once along their own gradients",
    "z' = z - h F(z)",
    "classical",
    guarantee="strongly monotone: linear for h < 2 mu/L^2; bilinear: diverges",
)
register(
    "alternating",
    "moves in turn or at once",
    _alternating,
    "the players step in turn, each seeing the moves before",
    "x' = x - h F1(x, y); y' = y - h F2(x', y)",
    "Goodfellow et al. 2014, arXiv:1406.2661",
    flops=_IN_TURN,
    guarantee="bilinear: bounded cycles for h <= 2/L; strongly convex-concave: linear",
)
register(
    "alex_gda",
    "moves in turn or at once",
    from_transformations(alex_gda),
    "alternation in which each answers an extrapolated move of the other",
    "x' = x - h F1(x, v); y' = y - h F2(2x' - x, y); v' = 2y' - y",
    "Lee et al. 2024, arXiv:2402.10475",
    geometries=PROJECTED,
    num_players=2,
    flops=_IN_TURN,
    guarantee="strongly convex-concave: linear, O(kappa) steps",
)
register(
    "negative_momentum",
    "moves in turn or at once",
    _negative_momentum,
    "alternation with momentum -1/2 for the first player",
    "m' = -m/2 + F1(x, y); x' = x - h m'; y' = y - h F2(x', y)",
    "Gidel et al. 2019, arXiv:1807.04740",
    num_players=2,
    flops=_IN_TURN,
    guarantee="bilinear: linear for h <= 1/L",
)
register(
    "complex_momentum",
    "moves in turn or at once",
    from_transformations(simultaneous, complex_momentum),
    "simultaneous steps with the complex momentum .9 exp(i pi/8)",
    "m' = b m - F(z); z' = z + Re(h m')",
    "Lorraine et al. 2022, arXiv:2102.08431",
    guarantee="bilinear: linear for small h",
)
register(
    "adam",
    "moves in turn or at once",
    from_transformations(simultaneous, optax.adam),
    "simultaneous Adam",
    "z' = z - h adam(F(z))",
    "Kingma and Ba 2015, arXiv:1412.6980",
    guarantee="none in games",
)
register(
    "lookahead",
    "moves in turn or at once",
    wrapped_from_transformations(lookahead, simultaneous, period=5, strength=0.5),
    "five simultaneous steps, then half of the way back, for all players together",
    "every 5 steps: s' = s + (z - s)/2, z' = s'",
    "Chavdarova et al. 2021, arXiv:2006.14567",
    guarantee="bilinear: linear where |1 + (1 + ihs)^5| < 2; none in general",
)

# Look ahead before moving.

register(
    "extragradient",
    "looking ahead",
    from_transformations(extragradient),
    "look ahead, then step from the original point",
    "w = z - h F(z); z' = z - h F(w)",
    "Korpelevich 1976",
    2,
    guarantee="monotone: last iterate converges for h < 1/L; strongly monotone: linear",
)
register(
    "stochastic_extragradient",
    "looking ahead",
    from_transformations(extragradient, resample=True),
    "extragradient with an independent batch in each half step",
    "w = z - h F_i(z); z' = z - h F_j(w)",
    "Juditsky et al. 2011, arXiv:0809.0815",
    2,
    guarantee="strongly monotone: up to a ball of noise; unbiased for linear fields",
    needs=("independent batches",),
)
register(
    "extragradient_plus",
    "looking ahead",
    _extragradient_plus,
    "extragradient that moves half as far as it looks ahead (EG+)",
    "w = z - h F(z); z' = z - h/2 F(w)",
    "Diakonikolas et al. 2021, arXiv:2011.00364",
    2,
    guarantee="weak Minty, rho > -1/(8L): best |F|^2 in O(1/k) for h = 1/L",
)
register(
    "double_step_extragradient",
    "looking ahead",
    _double_step,
    "extragradient with a constant look-ahead and ever smaller moves (DSEG)",
    "w = z - h F(z); z' = z - h_t F(w), h_t = 2h/(t + 20)",
    "Hsieh et al. 2020, arXiv:2003.10162",
    2,
    guarantee="noisy monotone with an error bound: converges almost surely",
)
register(
    "extra_adam",
    "looking ahead",
    from_transformations(extragradient, optax.adam, moments="both"),
    "extragradient with Adam, its moments advanced in both half steps",
    "w = z - h adam(F(z)); z' = z - h adam(F(w))",
    "Gidel et al. 2019, arXiv:1802.10551",
    2,
    guarantee="none with adaptive steps",
)
register(
    "averaged_extragradient",
    "looking ahead",
    wrapped_from_transformations(averaged, extragradient),
    "uniform average of extragradient's iterates",
    "w_t = w_{t-1} + (z_t - w_{t-1})/(t+1)",
    "Nemirovski 2004",
    2,
    guarantee="converges with its iterates; the O(1/T) gap is for middle points",
)
register(
    "past_extragradient",
    "looking ahead",
    from_transformations(past_extragradient),
    "extragradient that looks ahead with the past half point's field (Popov)",
    "w = z - h F(w-); z' = z - h F(w)",
    "Popov 1980; Gidel et al. 2019, arXiv:1802.10551",
    guarantee="monotone: last iterate converges for h <= 1/(3L); strongly: linear",
)
register(
    "optimistic",
    "looking ahead",
    from_transformations(optimistic),
    "gradient steps corrected by their last change (OGDA)",
    "z' = z - 2h F(z) + h F(z-)",
    "Daskalakis et al. 2018, arXiv:1711.00141",
    guarantee="monotone: last iterate converges for h < 1/(2L); strongly: linear",
)
register(
    "optimistic_adam",
    "looking ahead",
    from_transformations(optimistic, optax.adam),
    "Adam steps corrected by their last change",
    "z' = z - 2h d + h d-, d = adam(F(z))",
    "Daskalakis et al. 2018, arXiv:1711.00141",
    guarantee="none with adaptive steps",
)

# Anchored to the start.

register(
    "eag_c",
    "anchored to the start",
    owned(anchored_extragradient, variant="eag_c"),
    "extragradient pulled back to the start, constant step; h = 1/(8L)",
    "w = z + (z0 - z)/(k+2) - h F(z); z' = z + (z0 - z)/(k+2) - h F(w)",
    "Yoon and Ryu 2021, arXiv:2102.07922",
    2,
    PROJECTED,
    guarantee="monotone: |F(z_k)|^2 <= 260 L^2 D^2/(k+1)^2",
)
register(
    "eag_v",
    "anchored to the start",
    owned(anchored_extragradient, variant="eag_v"),
    "extragradient pulled back to the start, slowly decreasing step; h = .618/L",
    "w = z + (z0 - z)/(k+2) - h_k F(z); z' = z + (z0 - z)/(k+2) - h_k F(w)",
    "Yoon and Ryu 2021, arXiv:2102.07922",
    2,
    PROJECTED,
    guarantee="monotone: |F(z_k)|^2 <= 27 L^2 D^2/((k+1)(k+2))",
)
register(
    "feg",
    "anchored to the start",
    owned(anchored_extragradient, variant="feg"),
    "fast extragradient, anchored with a shortened look-ahead; h = 1/L",
    "b = 1/(k+1): w = z + b(z0 - z) - (1-b) h F(z); z' = z + b(z0 - z) - h F(w)",
    "Lee and Kim 2021, arXiv:2106.02326",
    2,
    PROJECTED,
    guarantee="monotone: |F(z_k)|^2 <= 4 L^2 D^2/k^2",
)
register(
    "anchored_popov",
    "anchored to the start",
    owned(anchored_extragradient, variant="popov"),
    "anchored, looking ahead with the past half point's field; h = 1/(2 sqrt(3) L)",
    "b = 1/(k+2): w = z + b(z0 - z) - (1-b) h_k F(w-); z' = z + b(z0 - z) - h_k F(w)",
    "Tran-Dinh and Luo 2021, arXiv:2110.08150",
    geometries=PROJECTED,
    guarantee="monotone: |F(z_k)|^2 in O(1/k^2)",
)
register(
    "halpern",
    "anchored to the start",
    wrapped(halpern, owned(proximal_point)),
    "proximal point steps mixed with the start",
    "z' = z0/(k+2) + (k+1)/(k+2) T(z), T(z) = z - h F(T(z))",
    "Halpern 1967; Diakonikolas 2020, arXiv:2002.08872",
    _newton_evaluations,
    EUCLIDEAN,
    flops=_NEWTON,
    guarantee="monotone: |F(z_k)|^2 in O(1/k^2) for every h",
)

# Integrators of the flow.

register(
    "runge_kutta_2",
    "following the flow",
    from_transformations(runge_kutta, order=2),
    "Heun's method, average of the field at both ends of the step",
    "w = z - h F(z); z' = z - h/2 (F(z) + F(w))",
    "Qin et al. 2020, arXiv:2010.15040",
    2,
    EUCLIDEAN,
    guarantee="follows the flow to second order; diverges on every bilinear game",
)
register(
    "runge_kutta_4",
    "following the flow",
    from_transformations(runge_kutta, order=4),
    "the classical Runge-Kutta method (ODE-GAN)",
    "z' = z - h/6 (k1 + 2 k2 + 2 k3 + k4)",
    "Qin et al. 2020, arXiv:2010.15040",
    4,
    EUCLIDEAN,
    guarantee="follows the flow to fourth order; bilinear: linear for h < 2 sqrt(2)/L",
)
register(
    "proximal_point",
    "following the flow",
    owned(proximal_point),
    "step along the field of the point reached (implicit, by Newton's method)",
    "z' = z - h F(z')",
    "Martinet 1970; Rockafellar 1976",
    _newton_evaluations,
    EUCLIDEAN,
    flops=_NEWTON,
    guarantee="monotone: converges for every h; strongly monotone: factor 1/(1 + h mu)",
)

# Field and constraint split.

register(
    "forward_backward_forward",
    "field and constraint split",
    from_transformations(forward_backward_forward),
    "look ahead and project, then correct without projecting (Tseng)",
    "w = P(z - h F(z)); z' = w - h (F(w) - F(z))",
    "Tseng 2000",
    2,
    PROJECTED,
    guarantee="monotone: converges for h < 1/L",
)
register(
    "forward_reflected_backward",
    "field and constraint split",
    from_transformations(forward_reflected_backward),
    "optimistic steps, projected once",
    "z' = P(z - 2h F(z) + h F(z-))",
    "Malitsky and Tam 2020, arXiv:1808.04162",
    geometries=PROJECTED,
    guarantee="monotone: converges for h < 1/(2L)",
)
register(
    "projected_reflected_gradient",
    "field and constraint split",
    from_transformations(projected_reflected_gradient),
    "step along the field of the reflected point",
    "z' = P(z - h F(2z - z-))",
    "Malitsky 2015, arXiv:1502.04968",
    geometries=PROJECTED,
    guarantee="monotone: converges for h < (sqrt(2) - 1)/L",
)
register(
    "adaptive_golden_ratio",
    "field and constraint split",
    owned(adaptive_golden_ratio),
    "steps from an averaged point, their size following the local curvature (aGRAAL)",
    "w = (z + 2 w-)/3; z' = P(w - h_k F(z)), h_0 = h",
    "Malitsky 2020, arXiv:1803.08832",
    geometries=PROJECTED,
    guarantee="monotone, locally Lipschitz: converges without knowing L",
)

# Entropic steps on simplices.

register(
    "multiplicative_weights",
    "entropic steps",
    on_simplices(simultaneous),
    "entropic gradient steps on the simplex; the last iterate spirals outwards",
    "x'_i ~ x_i exp(-h g_i)",
    "Freund and Schapire 1999",
    on_simplex=True,
    guarantee="zero-sum: gap of the average in O(1/sqrt(T))",
)
register(
    "optimistic_multiplicative_weights",
    "entropic steps",
    on_simplices(optimistic),
    "multiplicative weights with optimistic correction; the last iterate converges",
    "x'_i ~ x_i exp(-2h g_i + h g-_i)",
    "Daskalakis and Panageas 2019, arXiv:1807.04252",
    on_simplex=True,
    guarantee="zero-sum, unique solution: last iterate linear for h <= 1/8",
)
register(
    "mirror_prox",
    "entropic steps",
    on_simplices(extragradient),
    "extragradient with entropic steps on the simplex",
    "w ~ z exp(-h F(z)); z' ~ z exp(-h F(w))",
    "Nemirovski 2004",
    2,
    on_simplex=True,
    guarantee="monotone: O(1/T) gap of the averaged middle points",
)

# More of who moves when.

register(
    "inner_steps",
    "moves in turn or at once",
    _inner_steps,
    "five steps of the second player before each one of the first (WGAN's critic)",
    "5 times y' = y - h F2(x, y); x' = x - h F1(x, y')",
    "Arjovsky et al. 2017, arXiv:1701.07875",
    3,
    num_players=2,
    flops=3.4,
    guarantee="none in general; the more inner steps, the nearer to a best response",
)
register(
    "two_time_scales",
    "moves in turn or at once",
    _time_scales(optax.sgd),
    "simultaneous steps, the second player's four times as long (tau-GDA)",
    "x' = x - h F1(x, y); y' = y - 4h F2(x, y)",
    "Heusel et al. 2017, arXiv:1706.08500; Fiez and Ratliff 2021, arXiv:2009.14820",
    num_players=2,
    guarantee="differential Stackelberg: local for large ratios; diverges on bilinear",
)
register(
    "two_time_scale_adam",
    "moves in turn or at once",
    _time_scales(optax.adam),
    "simultaneous Adam, the second player's steps four times as long (TTUR)",
    "x' = x - h adam(F1(x, y)); y' = y - 4h adam(F2(x, y))",
    "Heusel et al. 2017, arXiv:1706.08500",
    num_players=2,
    guarantee="to local equilibria with vanishing steps, under assumptions on the flow",
)
register(
    "primal_dual",
    "moves in turn or at once",
    _primal_dual,
    "primal-dual hybrid gradient, with proximal maps if given (PDHG, Chambolle-Pock)",
    "x' = prox(x - h F1(x, y)); y' = prox(y - h F2(2x' - x, y))",
    "Chambolle and Pock 2011",
    geometries=PROJECTED,
    num_players=2,
    flops=_IN_TURN,
    guarantee="bilinear plus convex: O(1/T) gap of the average for h < 1/|A|",
)
register(
    "slingshot",
    "moves in turn or at once",
    _slingshot,
    "steps of both signs, (h, -h) and (-h, h) by turns",
    "z' = z - (h, -h) F(z); z'' = z' - (-h, h) F(z')",
    "Shugart and Altschuler 2025, arXiv:2505.01423",
    geometries=EUCLIDEAN,
    num_players=2,
    guarantee="bilinear: two steps multiply by 1 - h^2 s^2, linear for h < sqrt(2)/L",
)
register(
    "nested_lookahead",
    "moves in turn or at once",
    wrapped_from_transformations(_nested_lookahead, simultaneous),
    "lookahead over lookahead: half of the way back every 5 and every 50 steps",
    "every 5 steps: s' = s + (z - s)/2, z' = s'; every 50 the same with its own s",
    "Chavdarova et al. 2021, arXiv:2006.14567",
    guarantee="none in general",
)
register(
    "anderson",
    "moves in turn or at once",
    _anderson,
    "alternating steps mixed with the last ten by least squares (GDA-AM)",
    "z' = z + f - (dZ + dF) argmin_c |f - dF c|, f = G(z) - z",
    "He et al. 2022, arXiv:2110.02457",
    geometries=EUCLIDEAN,
    flops=_IN_TURN,
    guarantee="linear fields: exact after d + 1 steps of full memory; else none",
)

# More looking ahead.

register(
    "exponentially_averaged_extragradient",
    "looking ahead",
    wrapped_from_transformations(
        averaged, extragradient, kind="exponential", decay=0.99
    ),
    "exponential average of extragradient's iterates",
    "w_t = .99 w_{t-1} + .01 z_t",
    "Yazici et al. 2019, arXiv:1806.04498",
    2,
    guarantee="converges with its iterates",
)
register(
    "momentum_extragradient",
    "looking ahead",
    _momentum_extragradient,
    "extragradient with momentum, -.1 by default",
    "w = z - h F(z); z' = z - h F(w) + b(z - z-)",
    "Azizian et al. 2020, arXiv:2001.00602; Kim et al. 2022, arXiv:2211.04659",
    2,
    guarantee="accelerated on quadratic games whose spectrum is known",
)
register(
    "past_extra_adam",
    "looking ahead",
    from_transformations(past_extragradient, optax.adam, moments="both"),
    "past extragradient with Adam, its moments advanced in both half steps",
    "w = z - h adam(F(w-)); z' = z - h adam(F(w))",
    "Gidel et al. 2019, arXiv:1802.10551",
    guarantee="none with adaptive steps",
)
register(
    "generalised_optimistic",
    "looking ahead",
    _generalised_optimistic,
    "optimistic steps with a correction of another weight, 3/4 of the step",
    "z' = z - (h + b) F(z) + b F(z-), b = 3h/4",
    "Peng et al. 2020; Mokhtari et al. 2020, arXiv:1901.08511",
    guarantee="bilinear: linear for small h if b > h/2",
)
register(
    "alternating_optimistic",
    "looking ahead",
    _alternating_optimistic,
    "in turn, the first player with an optimistic correction (Gauss-Seidel)",
    "x' = x - h F1(x, y) + h/2 F1(x-, y-); y' = y - h F2(x', y)",
    "Zhang and Yu 2020, arXiv:1908.05699",
    num_players=2,
    flops=_IN_TURN,
    guarantee="bilinear: linear; the best steps reach sqrt((k^2 - 1)/(k^2 + 1))",
)
register(
    "fast_optimistic",
    "looking ahead",
    owned(fast_optimistic),
    "optimistic steps with vanishing friction (fast OGDA)",
    "w = z + k/(k+3)(z - z-) - 3h/(k+3) F(w-); z' = w - h(2k+3)/(k+3)(F(w) - F(w-))",
    "Bot et al. 2023, arXiv:2203.10947",
    geometries=EUCLIDEAN,
    guarantee="monotone: |F(z_k)| in o(1/k) for h < 1/(8L)",
)
register(
    "half_step_extragradient",
    "looking ahead",
    owned(half_step_extragradient),
    "EG+ with a single projection",
    "u = z - h F(z); w = P(u); z' = z - (u - w + h F(w))/2",
    "Diakonikolas et al. 2021, arXiv:2011.00364; Pethick et al. 2022, arXiv:2302.09831",
    2,
    PROJECTED,
    guarantee="weak Minty, rho > -1/(4L): best |F|^2 in O(1/k)",
)
register(
    "adaptive_extragradient_plus",
    "looking ahead",
    owned(curvature_extragradient, line_search=False),
    "EG+ that moves onto the separating half-space (AdaptiveEG+)",
    "w = z - h F(z); z' = z - a h F(w), a = <F(z), F(w)>/|F(w)|^2",
    "Pethick et al. 2022, arXiv:2302.09831",
    2,
    EUCLIDEAN,
    guarantee="weak Minty, rho >= d > -h/2 for h < 1/L: best |F|^2 in O(1/k)",
)
register(
    "curvature_extragradient_plus",
    "looking ahead",
    owned(curvature_extragradient),
    "AdaptiveEG+ that looks ahead as far as local curvature allows (CurvatureEG+)",
    "the largest g <= h with g |F(w) - F(z)| <= .99 |w - z|, then as AdaptiveEG+",
    "Pethick et al. 2022, arXiv:2302.09831",
    2,
    EUCLIDEAN,
    flops=3,
    guarantee="weak Minty, rho >= d > -g/2: converges without knowing L",
)
register(
    "stochastic_extragradient_plus",
    "looking ahead",
    _stochastic_plus,
    "EG+ on independent samples, its moves ever smaller (SEG+)",
    "w = z - h F_i(z); z' = z - h_t F_j(w), h_t = h/(2(t + 1))",
    "Pethick et al. 2023, arXiv:2302.09029",
    2,
    needs=("independent batches",),
    guarantee="affine weak Minty: converges almost surely",
)
register(
    "bias_corrected_extragradient",
    "looking ahead",
    owned(bias_corrected_extragradient),
    "SEG+ that looks ahead with an average of past noise (BCSEG+)",
    "w = z - h F_i(z) + (1-a)(w- - z- + h F_i(z-)); z' = z - a h F_j(w)",
    "Pethick et al. 2023, arXiv:2302.09029",
    3,
    PROJECTED,
    needs=("independent batches",),
    guarantee="weak Minty: converges with a constant look-ahead, also under noise",
)

# More of anchors.

register(
    "decaying_anchor_extragradient",
    "anchored to the start",
    owned(decaying_anchor_extragradient),
    "extragradient on the field plus a vanishing pull to the start",
    "w = z - e_k (z - z0) - h F(z); z' = z0 + (z - z0 - h F(w))/(1 + e_{k+1})",
    "Bot and Chenchene 2024, arXiv:2410.14369",
    2,
    EUCLIDEAN,
    guarantee="monotone: |F(z_k)| in O(1/k), strongly to the nearest solution",
)
register(
    "anchored_descent",
    "anchored to the start",
    owned(anchored_descent),
    "simultaneous steps, ever smaller, with a pull to the start",
    "z' = z - h/k^.7 F(z) + .3/k^.9 (z0 - z)",
    "Ryu et al. 2019, arXiv:1905.10899",
    geometries=PROJECTED,
    guarantee="monotone, also noisy: converges, |F|^2 in O(1/k^(2 - 2p))",
)
register(
    "restarted_feg",
    "anchored to the start",
    wrapped(restarted, owned(anchored_extragradient, variant="feg"), period=20),
    "fast extragradient with a new anchor every 20 steps",
    "FEG; every 20 steps z0 = z, k = 0",
    "Lee and Kim 2021, arXiv:2106.02326; Roulet and d'Aspremont 2017, arXiv:1702.03828",
    2,
    PROJECTED,
    guarantee="monotone with an error bound |z - z*| <= c|F(z)|: linear if 2cL < 20",
)

# More of constraints, and steps that adapt.

register(
    "golden_ratio",
    "field and constraint split",
    owned(golden_ratio),
    "steps from a golden-ratio average of the iterates (GRAAL)",
    "w = ((p - 1) z + w-)/p; z' = P(w - h F(z)), p = 1.618",
    "Malitsky 2020, arXiv:1803.08832",
    geometries=PROJECTED,
    guarantee="monotone: converges for h <= 1.618/(2L)",
)
register(
    "universal_mirror_prox",
    "field and constraint split",
    owned(universal_mirror_prox),
    "extragradient whose step falls with the distances moved; averaged",
    "h_t = D/sqrt(D^2/h^2 + sum Z_s^2)",
    "Bach and Levy 2019, arXiv:1902.01637",
    2,
    PROJECTED,
    guarantee="monotone on a compact set: O(1/T) gap, O(1/sqrt(T)) if rough or noisy",
)
register(
    "adaptive_mirror_prox",
    "field and constraint split",
    owned(adaptive_mirror_prox),
    "extragradient whose step falls with how the field turns; averaged (AdaProx)",
    "h_t = h/sqrt(1 + sum |F(w_s) - F(z_s)|^2)",
    "Antonakopoulos et al. 2021, arXiv:2010.12100; Kavis et al. 2019, arXiv:1910.13857",
    2,
    PROJECTED,
    guarantee="monotone: O(1/T) gap if smooth, O(1/sqrt(T)) if not, without constants",
)
register(
    "interior_point",
    "field and constraint split",
    owned(interior_point),
    "implicit steps coupled with a copy kept inside by a barrier (ACVI)",
    "x' + h F(x') = y - h l; y' = barrier step to x' + h l; l' = l + (x' - y')/h",
    "Yang et al. 2023, arXiv:2206.10575",
    _newton_evaluations,
    EUCLIDEAN,
    needs=("constraints",),
    flops=float("nan"),
    guarantee="monotone: O(1/sqrt(K)) gap of the last iterate",
)

# More on simplices.

register(
    "optimistic_mirror_descent",
    "entropic steps",
    on_simplices(past_extragradient),
    "entropic steps that look ahead with the past half point's field",
    "w ~ z exp(-h F(w-)); z' ~ z exp(-h F(w))",
    "Rakhlin and Sridharan 2013, arXiv:1311.1869; Mertikopoulos et al. 2019, "
    "arXiv:1807.02629",
    on_simplex=True,
    guarantee="zero-sum: O(1/T) gap of the average; last iterate converges",
)
register(
    "magnetic_mirror_descent",
    "entropic steps",
    _with_step(magnetic_mirror_descent),
    "entropic steps with a pull to the uniform point: quantal response",
    "x' ~ (x exp(-h g) r^(ha))^(1/(1 + ha)), a = 1/2",
    "Sokota et al. 2023, arXiv:2206.05825",
    on_simplex=True,
    guarantee="zero-sum: linear to the quantal response for small h",
)
register(
    "replicator",
    "entropic steps",
    _with_step(replicator),
    "Euler steps of the replicator flow",
    "x'_i = x_i + h x_i (<x, g> - g_i)",
    "Taylor and Jonker 1978",
    on_simplex=True,
    guarantee="zero-sum: the flow cycles around an interior solution",
)
register(
    "frank_wolfe",
    "best responses and regrets",
    _without_step(frank_wolfe),
    "steps 2/(t+2) towards the best vertices",
    "z' = z + 2/(t+2) (s - z), s = argmin <F(z), s>",
    "Gidel et al. 2017, arXiv:1610.07797",
    on_simplex=True,
    guarantee="strongly convex-concave with interior solution: linear with line search",
)
register(
    "fictitious_play",
    "best responses and regrets",
    _without_step(fictitious_play),
    "best responses to the average of past play, averaged",
    "z' = z + (s - z)/(t+2), s = argmin <F(z), s>",
    "Brown 1951; Robinson 1951",
    on_simplex=True,
    guarantee="zero-sum matrix games: converges",
)
register(
    "regret_matching",
    "best responses and regrets",
    _without_step(regret_matching, "uniform"),
    "play in proportion to the positive regrets; averaged",
    "R' = R + <x, g> - g; x' ~ [R']+",
    "Hart and Mas-Colell 2000",
    on_simplex=True,
    guarantee="zero-sum: gap of the average in O(1/sqrt(T))",
)
register(
    "regret_matching_plus",
    "best responses and regrets",
    _without_step(lambda: regret_matching(variant="plus"), "linear"),
    "regret matching that forgets negative regrets; linearly averaged (RM+)",
    "R' = [R + <x, g> - g]+; x' ~ R'",
    "Tammelin 2014, arXiv:1407.5042",
    on_simplex=True,
    guarantee="zero-sum: gap of the average in O(1/sqrt(T))",
)
register(
    "predictive_regret_matching_plus",
    "best responses and regrets",
    _without_step(lambda: regret_matching(variant="predictive"), "linear"),
    "RM+ that counts the last regret once more; linearly averaged (PRM+)",
    "R' = [R + r]+, r = <x, g> - g; x' ~ [R' + r]+",
    "Farina et al. 2021, arXiv:2007.14358",
    on_simplex=True,
    guarantee="zero-sum: gap of the average in O(1/sqrt(T)), in practice far faster",
)

# Stochastic games.

register(
    "reshuffled_extragradient",
    "stochastic",
    _reshuffled_extragradient,
    "extragradient on the components in a new order each epoch, one for both halves",
    "w = z - h F_i(z); z' = z - h F_i(w), i without replacement",
    "Emmanouilidis et al. 2024, arXiv:2403.07148",
    2,
    needs=("finite sum",),
    guarantee="strongly monotone: to a smaller ball of noise than with replacement",
)
register(
    "stochastic_hamiltonian",
    "stochastic",
    from_transformations(stochastic_hamiltonian),
    "descent on half the squared norm of the field, on two independent samples",
    "z' = z - h/2 (J_i' F_j + J_j' F_i)",
    "Loizou et al. 2020, arXiv:2007.04202",
    2,
    EUCLIDEAN,
    products=2,
    needs=("independent batches",),
    flops=3.4,
    guarantee="stochastic bilinear: linear up to a ball of noise",
)
register(
    "svre",
    "stochastic",
    owned(svre),
    "extragradient, both half steps variance reduced",
    "d_i(z) = F_i(z) - F_i(w) + F(w); u = z - h d_i(z); z' = z - h d_j(u)",
    "Chavdarova et al. 2019, arXiv:1904.08598",
    5,
    PROJECTED,
    needs=("finite sum", "independent batches"),
    flops=4,
    guarantee="strongly monotone: linear in O(n + L/mu) for h = 1/(40L)",
)
register(
    "extragradient_variance_reduced",
    "stochastic",
    owned(extragradient_variance_reduced),
    "extragradient from between point and snapshot, variance reduced (EG-VR)",
    "v = a z + (1-a) w; u = v - h F(w); z' = v - h (F(w) + F_i(u) - F_i(w))",
    "Alacaoglu and Malitsky 2022, arXiv:2102.08352",
    3,
    PROJECTED,
    needs=("finite sum",),
    flops=2,
    guarantee="monotone: O(n + sqrt(n) L/eps); strongly: linear, O(n + sqrt(n) L/mu)",
)
register(
    "loopless_svrgda",
    "stochastic",
    owned(loopless_svrgda),
    "simultaneous steps, variance reduced (L-SVRGDA)",
    "z' = z - h (F_i(z) - F_i(w) + F(w))",
    "Beznosikov et al. 2023, arXiv:2202.07262",
    3,
    PROJECTED,
    needs=("finite sum",),
    flops=2,
    guarantee="strongly monotone and cocoercive: linear",
)
register(
    "forward_reflected_variance_reduced",
    "stochastic",
    owned(forward_reflected_variance_reduced),
    "forward-reflected-backward, variance reduced (VR-FoRB)",
    "z' = z - h (F(w) + F_i(z) - F_i(w-))",
    "Alacaoglu et al. 2021",
    3,
    PROJECTED,
    needs=("finite sum",),
    flops=2,
    guarantee="monotone: converges almost surely; strongly monotone: linear",
)
register(
    "alternating_variance_reduced",
    "stochastic",
    owned(alternating_variance_reduced),
    "alternating steps, each move variance reduced (VR-AGDA)",
    "x' = x - h d_i(x, y); y' = y - h d_j(x', y), d_i = F_i(z) - F_i(w) + F(w)",
    "Yang et al. 2020, arXiv:2002.09621",
    3,
    PROJECTED,
    num_players=2,
    needs=("finite sum", "independent batches"),
    flops=2 * _IN_TURN,
    guarantee="two-sided Polyak-Lojasiewicz: linear",
)
register(
    "quantised_descent",
    "stochastic",
    owned(compressed_descent),
    "simultaneous steps along a quarter of the entries, at random (QSGDA)",
    "z' = z - h Q(F_i(z)), Q unbiased",
    "Beznosikov et al. 2023, arXiv:2202.07262",
    geometries=PROJECTED,
    guarantee="strongly monotone and cocoercive: linear up to a ball of noise",
)
register(
    "diana",
    "stochastic",
    owned(compressed_descent, memory=True),
    "simultaneous steps from compressed differences to what is remembered",
    "d = Q(F_i(z) - m); z' = z - h (m + d); m' = m + a d",
    "Mishchenko et al. 2019, arXiv:1901.09269",
    geometries=PROJECTED,
    guarantee="strongly monotone and cocoercive: linear without noise of compression",
)
register(
    "vr_diana",
    "stochastic",
    owned(_vr_diana),
    "DIANA with variance-reduced fields",
    "d = Q(F_i(z) - F_i(w) + F(w) - m); z' = z - h (m + d); m' = m + a d",
    "Beznosikov et al. 2023, arXiv:2202.07262",
    3,
    PROJECTED,
    needs=("finite sum",),
    flops=2,
    guarantee="strongly monotone and cocoercive: linear",
)

# The local game solved, with memory.


def _krylov_evaluations(size: int) -> int:
    """Count as many turns of the inner solver as there are parameters, at most 100."""
    return 4 + 4 * min(size, 100)


register(
    "competitive_gradient",
    "the local game solved",
    owned(competitive_gradient),
    "step to the equilibrium of the local bilinear game, warm-started (CGD)",
    "z' = z - h (I + h H_o)^-1 F(z)",
    "Schaefer and Anandkumar 2019, arXiv:1905.12103",
    _krylov_evaluations,
    PROJECTED,
    products=4,
    flops=7.2,
    guarantee="bilinear: 1/sqrt(1 + h^2 s^2), the proximal point method",
)
register(
    "adaptive_competitive_gradient",
    "the local game solved",
    owned(adaptive_competitive_gradient),
    "competitive steps, sizes following the gradients' second moments (ACGD)",
    "z' = z - R (I + R H_o R)^-1 R F(z), R^2 = diag(h/(sqrt(v) + eps))",
    "Schaefer et al. 2020, arXiv:1910.05852",
    _krylov_evaluations,
    PROJECTED,
    products=4,
    flops=7.2,
    guarantee="none",
)

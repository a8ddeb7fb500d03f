"""Rules that combine families: a wrapper or entropic steps around another rule."""

from collections.abc import Callable
from typing import Any

import optax

from gamedyn.geometry import entropic, euclidean
from gamedyn.rules.anchored import anchored_extragradient, halpern
from gamedyn.rules.base import EUCLIDEAN, PROJECTED, Rule, check_geometry
from gamedyn.rules.extragradient import extragradient, past_extragradient
from gamedyn.rules.integrators import NEWTON_FLOPS, newton_evaluations, proximal_point
from gamedyn.rules.optimistic import optimistic
from gamedyn.rules.registry import each, owned, register
from gamedyn.rules.stochastic import reshuffled
from gamedyn.rules.turns import IN_TURN_FLOPS, alternating, simultaneous
from gamedyn.rules.wrappers import anderson, averaged, lookahead, restarted


def wrapped(
    wrapper: Callable[..., Rule], inner: Callable[..., Rule], **fixed: Any
) -> Callable[..., Rule]:
    """Let one positive number make a wrapped rule; `inner` makes the rule inside."""

    def make(step_size, *, num_players=2, geometry=euclidean, **options):
        made = inner(step_size, num_players=num_players, geometry=geometry)
        return wrapper(made, **{**fixed, **options})

    return make


def wrapped_from_transformations(
    wrapper: Callable[..., Rule], builder: Callable[..., Rule], **fixed: Any
) -> Callable[..., Rule]:
    """Let one positive number make a wrapped rule from transformations."""

    def make(
        step_size,
        *,
        num_players=2,
        geometry=euclidean,
        transformation=optax.sgd,
        **options,
    ):
        del num_players
        made = builder(*each(transformation, step_size), geometry=geometry)
        return wrapper(made, **{**fixed, **options})

    return make


def entropic_steps(builder: Callable[..., Rule], **fixed: Any) -> Callable[..., Rule]:
    """Let one positive number make a rule of entropic steps, whatever the geometry."""

    def make(step_size, *, num_players=2, geometry=entropic, **options):
        del num_players, geometry
        return builder(optax.sgd(step_size), geometry=entropic, **{**fixed, **options})

    return make


# The registered rules.

register(
    "lookahead",
    wrapped_from_transformations(lookahead, simultaneous, period=5, strength=0.5),
    family="moves in turn or at once",
    summary="five simultaneous steps, then half of the way back, "
    "for all players together",
    formula="every 5 steps: s' = s + (z - s)/2, z' = s'",
    source="Chavdarova et al. 2021, arXiv:2006.14567",
    guarantee="bilinear: linear where |1 + (1 + ihs)^5| < 2; none in general",
)


def _nested_lookahead(rule: Rule, *, periods=(5, 50), strengths=(0.5, 0.5)) -> Rule:
    for period, strength in zip(periods, strengths, strict=True):
        rule = lookahead(rule, period=period, strength=strength)
    return rule


register(
    "nested_lookahead",
    wrapped_from_transformations(_nested_lookahead, simultaneous),
    family="moves in turn or at once",
    summary="lookahead over lookahead: half of the way back every 5 and every 50 steps",
    formula="every 5 steps: s' = s + (z - s)/2, z' = s'; "
    "every 50 the same with its own s",
    source="Chavdarova et al. 2021, arXiv:2006.14567",
    guarantee="none in general",
)


@register(
    "anderson",
    family="moves in turn or at once",
    summary="alternating steps mixed with the last ten by least squares (GDA-AM)",
    formula="z' = z + f - (dZ + dF) argmin_c |f - dF c|, f = G(z) - z",
    source="He et al. 2022, arXiv:2110.02457",
    guarantee="linear fields: exact after d + 1 steps of full memory; else none",
    geometries=EUCLIDEAN,
    flops=IN_TURN_FLOPS,
)
def _anderson(step_size, *, num_players=2, geometry=euclidean, **options):
    check_geometry(geometry, EUCLIDEAN, "anderson")
    order = tuple(range(num_players))
    inner = alternating(optax.sgd(step_size), order=order, geometry=geometry)
    return anderson(inner, **options)


register(
    "averaged_extragradient",
    wrapped_from_transformations(averaged, extragradient),
    family="looking ahead",
    summary="uniform average of extragradient's iterates",
    formula="w_t = w_{t-1} + (z_t - w_{t-1})/(t+1)",
    source="Nemirovski 2004",
    guarantee="converges with its iterates; the O(1/T) gap is for middle points",
    evaluations=2,
)
register(
    "exponentially_averaged_extragradient",
    wrapped_from_transformations(
        averaged, extragradient, kind="exponential", decay=0.99
    ),
    family="looking ahead",
    summary="exponential average of extragradient's iterates",
    formula="w_t = .99 w_{t-1} + .01 z_t",
    source="Yazici et al. 2019, arXiv:1806.04498",
    guarantee="converges with its iterates",
    evaluations=2,
)
register(
    "halpern",
    wrapped(halpern, owned(proximal_point)),
    family="anchored to the start",
    summary="proximal point steps mixed with the start",
    formula="z' = z0/(k+2) + (k+1)/(k+2) T(z), T(z) = z - h F(T(z))",
    source="Halpern 1967; Diakonikolas 2020, arXiv:2002.08872",
    guarantee="monotone: |F(z_k)|^2 in O(1/k^2) for every h",
    evaluations=newton_evaluations,
    geometries=EUCLIDEAN,
    flops=NEWTON_FLOPS,
)
register(
    "restarted_feg",
    wrapped(restarted, owned(anchored_extragradient, variant="feg"), period=20),
    family="anchored to the start",
    summary="fast extragradient with a new anchor every 20 steps",
    formula="FEG; every 20 steps z0 = z, k = 0",
    source="Lee and Kim 2021, arXiv:2106.02326; "
    "Roulet and d'Aspremont 2017, arXiv:1702.03828",
    guarantee="monotone with an error bound |z - z*| <= c|F(z)|: linear if 2cL < 20",
    evaluations=2,
    geometries=PROJECTED,
)
register(
    "multiplicative_weights",
    entropic_steps(simultaneous),
    family="entropic steps",
    summary="entropic gradient steps on the simplex; the last iterate spirals outwards",
    formula="x'_i ~ x_i exp(-h g_i)",
    source="Freund and Schapire 1999",
    guarantee="zero-sum: gap of the average in O(1/sqrt(T))",
    on_simplex=True,
)
register(
    "optimistic_multiplicative_weights",
    entropic_steps(optimistic),
    family="entropic steps",
    summary="multiplicative weights with optimistic correction; "
    "the last iterate converges",
    formula="x'_i ~ x_i exp(-2h g_i + h g-_i)",
    source="Daskalakis and Panageas 2019, arXiv:1807.04252",
    guarantee="zero-sum, unique solution: last iterate linear for h <= 1/8",
    on_simplex=True,
)
register(
    "mirror_prox",
    entropic_steps(extragradient),
    family="entropic steps",
    summary="extragradient with entropic steps on the simplex",
    formula="w ~ z exp(-h F(z)); z' ~ z exp(-h F(w))",
    source="Nemirovski 2004",
    guarantee="monotone: O(1/T) gap of the averaged middle points",
    evaluations=2,
    on_simplex=True,
)
register(
    "optimistic_mirror_descent",
    entropic_steps(past_extragradient),
    family="entropic steps",
    summary="entropic steps that look ahead with the past half point's field",
    formula="w ~ z exp(-h F(w-)); z' ~ z exp(-h F(w))",
    source="Rakhlin and Sridharan 2013, arXiv:1311.1869; "
    "Mertikopoulos et al. 2019, arXiv:1807.02629",
    guarantee="zero-sum: O(1/T) gap of the average; last iterate converges",
    on_simplex=True,
)


@register(
    "reshuffled_extragradient",
    family="stochastic",
    summary="extragradient on the components in a new order each epoch, "
    "one for both halves",
    formula="w = z - h F_i(z); z' = z - h F_i(w), i without replacement",
    source="Emmanouilidis et al. 2024, arXiv:2403.07148",
    guarantee="strongly monotone: to a smaller ball of noise than with replacement",
    evaluations=2,
    needs=("finite sum",),
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

"""The registry of rules: how one positive number makes each of them, and its facts."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gamedyn.geometry import Geometry, entropic, euclidean
from gamedyn.registry import Registry
from gamedyn.rules.anchored import anchored_extragradient, halpern
from gamedyn.rules.base import Rule
from gamedyn.rules.extrapolation import extragradient, optimistic, past_extragradient
from gamedyn.rules.integrators import proximal_point, runge_kutta
from gamedyn.rules.splitting import (
    adaptive_golden_ratio,
    alex_gda,
    forward_backward_forward,
    forward_reflected_backward,
    projected_reflected_gradient,
)
from gamedyn.rules.turns import alternating, simultaneous
from gamedyn.rules.wrappers import averaged, lookahead
from gamedyn.transformations import complex_momentum, negative_momentum


class RuleEntry(NamedTuple):
    """A registered rule.

    Attributes:
        family: the family of rules it belongs to, a few words.
        make: `make(step_size, num_players=2, geometry=euclidean, **options) -> Rule`.
        summary: one line in words.
        formula: the update in one line.
        source: authors, year, arXiv id.
        evaluations: joint field evaluations per step, given the number of scalar
            parameters of all players.
        geometries: the kinds of geometry on which the rule is defined.
        num_players: the number of players it is for; any if `None`.
        on_simplex: whether it takes its own entropic steps, hence is for games whose
            every player has a simplex.
        takes_transformation: whether `transformation` and a tuple of step sizes, one
            for each player, may be given to `make`.
    """

    family: str
    make: Callable[..., Rule]
    summary: str
    formula: str
    source: str
    evaluations: Callable[[int], int]
    geometries: tuple[str, ...]
    num_players: int | None = None
    on_simplex: bool = False
    takes_transformation: bool = False


_REGISTRY: Registry[RuleEntry] = Registry("rule")


def names() -> tuple[str, ...]:
    """The names of all registered rules."""
    return _REGISTRY.names()


def entries() -> dict[str, RuleEntry]:
    """All registered rules by name."""
    return {name: _REGISTRY[name] for name in _REGISTRY}


def entry(name: str) -> RuleEntry:
    """Look a rule up; an unknown name raises `ValueError` with the nearest ones."""
    return _REGISTRY[name]


def make(
    name: str,
    step_size: Any,
    *,
    num_players: int = 2,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
    **options: Any,
) -> Rule:
    """Build a registered rule from one positive number.

    Args:
        name: a name from `names()`; hyphens are accepted.
        step_size: the step size, may be traced; for rules that take a transformation
            also a tuple, one for each player (two time scales).
        num_players: the number of players.
        geometry: one for all players, or a tuple of one each.
        **options: further arguments of the rule's builder; `transformation`, for rules
            that take one: the function of a step size that takes the place of plain
            steps, `functools.partial(optax.adam, b1=0.5)` say.

    Returns:
        The rule.

    Raises:
        ValueError: if the name is unknown, the rule is not for that many players, not
            defined on that geometry, or owns its steps and is given a transformation
            or a tuple of step sizes.

    Example:
        >>> import gamedyn as gd
        >>> rule = gd.rules.make("extragradient", 0.1)
    """
    found = entry(name)
    if found.num_players not in (None, num_players):
        raise ValueError(
            f"{name} is for {found.num_players} players, got {num_players}"
        )
    if not found.takes_transformation and (
        "transformation" in options or isinstance(step_size, tuple)
    ):
        raise ValueError(
            f"{name} owns its steps: expected one step size and no transformation"
        )
    return found.make(step_size, num_players=num_players, geometry=geometry, **options)


# One entry per rule. The geometries are checked by the rules themselves too; here they
# tell the command line which rules to offer.

_ANY = ("euclidean", "projected", "entropic")
_PROJECTED = ("euclidean", "projected")
_EUCLIDEAN = ("euclidean",)


def _register(
    name: str,
    family: str,
    make: Callable[..., Rule],
    summary: str,
    formula: str,
    source: str,
    evaluations: int | Callable[[int], int] = 1,
    geometries: tuple[str, ...] = _ANY,
    num_players: int | None = None,
    on_simplex: bool = False,
) -> None:
    count = evaluations if callable(evaluations) else lambda size: evaluations
    _REGISTRY.add(
        name,
        RuleEntry(
            family,
            make,
            summary,
            formula,
            source,
            count,
            geometries,
            num_players,
            on_simplex,
            "transformation" in inspect.signature(make).parameters,
        ),
    )


def _each(transformation: Callable[..., Any], step_size: Any) -> tuple[Any, ...]:
    """Make one transformation for all players, or one for each step size."""
    sizes = step_size if isinstance(step_size, tuple) else (step_size,)
    return tuple(map(transformation, sizes))


def _from(
    builder: Callable[..., Rule],
    plain: Callable[[Any], Any] = optax.sgd,
    **fixed: Any,
) -> Callable[..., Rule]:
    """Make a rule from transformations, by default plain steps of one size."""

    def make(
        step_size, *, num_players=2, geometry=euclidean, transformation=plain, **options
    ):
        del num_players
        steps = _each(transformation, step_size)
        return builder(*steps, geometry=geometry, **{**fixed, **options})

    return make


def _owned(builder: Callable[..., Rule], **fixed: Any) -> Callable[..., Rule]:
    """Make a rule whose scheme owns its step."""

    def make(step_size, *, num_players=2, geometry=euclidean, **options):
        del num_players
        return builder(step_size, geometry=geometry, **{**fixed, **options})

    return make


def _wrapped(
    wrapper: Callable[..., Rule], inner: Callable[..., Rule], **fixed: Any
) -> Callable[..., Rule]:
    """Wrap a rule whose scheme owns its step."""

    def make(step_size, *, num_players=2, geometry=euclidean, **options):
        made = inner(step_size, num_players=num_players, geometry=geometry)
        return wrapper(made, **{**fixed, **options})

    return make


def _wrapped_from(
    wrapper: Callable[..., Rule], builder: Callable[..., Rule], **fixed: Any
) -> Callable[..., Rule]:
    """Wrap a rule made from transformations."""

    def make(
        step_size,
        *,
        num_players=2,
        geometry=euclidean,
        transformation=optax.sgd,
        **options,
    ):
        del num_players
        made = builder(*_each(transformation, step_size), geometry=geometry)
        return wrapper(made, **{**fixed, **options})

    return make


def _entropic(builder: Callable[..., Rule], **fixed: Any) -> Callable[..., Rule]:
    """Make a rule that is defined by its entropic steps, whatever the geometry."""

    def make(step_size, *, num_players=2, geometry=entropic, **options):
        del num_players, geometry
        return builder(optax.sgd(step_size), geometry=entropic, **{**fixed, **options})

    return make


def _alternating(
    step_size,
    *,
    num_players=2,
    geometry=euclidean,
    transformation=optax.sgd,
    **options,
):
    options = {"order": tuple(range(num_players)), **options}
    return alternating(*_each(transformation, step_size), geometry=geometry, **options)


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


def _newton_evaluations(size: int) -> int:
    """Count one Newton step: its residual before and after, and a dense Jacobian."""
    return size + 2


# Who moves when.

_register(
    "simultaneous",
    "moves in turn or at once",
    _from(simultaneous),
    "all players step at once along their own gradients",
    "z' = z - h F(z)",
    "classical",
)
_register(
    "alternating",
    "moves in turn or at once",
    _alternating,
    "the players step in turn, each seeing the moves before",
    "x' = x - h F1(x, y); y' = y - h F2(x', y)",
    "Goodfellow et al. 2014, arXiv:1406.2661",
)
_register(
    "alex_gda",
    "moves in turn or at once",
    _from(alex_gda),
    "alternation in which each answers an extrapolated move of the other",
    "x' = x - h F1(x, v); y' = y - h F2(2x' - x, y); v' = 2y' - y",
    "Lee et al. 2024, arXiv:2402.10475",
    geometries=_PROJECTED,
    num_players=2,
)
_register(
    "negative_momentum",
    "moves in turn or at once",
    _negative_momentum,
    "alternation with momentum -1/2 for the first player",
    "m' = -m/2 + F1(x, y); x' = x - h m'; y' = y - h F2(x', y)",
    "Gidel et al. 2019, arXiv:1807.04740",
    num_players=2,
)
_register(
    "complex_momentum",
    "moves in turn or at once",
    _from(simultaneous, complex_momentum),
    "simultaneous steps with the complex momentum .9 exp(i pi/8)",
    "m' = b m - F(z); z' = z + Re(h m')",
    "Lorraine et al. 2022, arXiv:2102.08431",
)
_register(
    "adam",
    "moves in turn or at once",
    _from(simultaneous, optax.adam),
    "simultaneous Adam",
    "z' = z - h adam(F(z))",
    "Kingma and Ba 2015, arXiv:1412.6980",
)
_register(
    "lookahead",
    "moves in turn or at once",
    _wrapped_from(lookahead, simultaneous, period=5, strength=0.5),
    "five simultaneous steps, then half of the way back, for all players together",
    "every 5 steps: s' = s + (z - s)/2, z' = s'",
    "Chavdarova et al. 2021, arXiv:2006.14567",
)

# Look ahead before moving.

_register(
    "extragradient",
    "looking ahead",
    _from(extragradient),
    "look ahead, then step from the original point",
    "w = z - h F(z); z' = z - h F(w)",
    "Korpelevich 1976",
    2,
)
_register(
    "stochastic_extragradient",
    "looking ahead",
    _from(extragradient, resample=True),
    "extragradient with an independent batch in each half step",
    "w = z - h F_i(z); z' = z - h F_j(w)",
    "Juditsky et al. 2011, arXiv:0809.0815",
    2,
)
_register(
    "extragradient_plus",
    "looking ahead",
    _extragradient_plus,
    "extragradient that moves half as far as it looks ahead (EG+)",
    "w = z - h F(z); z' = z - h/2 F(w)",
    "Diakonikolas et al. 2021, arXiv:2011.00364",
    2,
)
_register(
    "double_step_extragradient",
    "looking ahead",
    _double_step,
    "extragradient with a constant look-ahead and ever smaller moves (DSEG)",
    "w = z - h F(z); z' = z - h_t F(w), h_t = 2h/(t + 20)",
    "Hsieh et al. 2020, arXiv:2003.10162",
    2,
)
_register(
    "extra_adam",
    "looking ahead",
    _from(extragradient, optax.adam, moments="both"),
    "extragradient with Adam, its moments advanced in both half steps",
    "w = z - h adam(F(z)); z' = z - h adam(F(w))",
    "Gidel et al. 2019, arXiv:1802.10551",
    2,
)
_register(
    "averaged_extragradient",
    "looking ahead",
    _wrapped_from(averaged, extragradient),
    "uniform average of extragradient's iterates",
    "w_t = w_{t-1} + (z_t - w_{t-1})/(t+1)",
    "Nemirovski 2004",
    2,
)
_register(
    "past_extragradient",
    "looking ahead",
    _from(past_extragradient),
    "extragradient that looks ahead with the past half point's field (Popov)",
    "w = z - h F(w-); z' = z - h F(w)",
    "Popov 1980; Gidel et al. 2019, arXiv:1802.10551",
)
_register(
    "optimistic",
    "looking ahead",
    _from(optimistic),
    "gradient steps corrected by their last change (OGDA)",
    "z' = z - 2h F(z) + h F(z-)",
    "Daskalakis et al. 2018, arXiv:1711.00141",
)
_register(
    "optimistic_adam",
    "looking ahead",
    _from(optimistic, optax.adam),
    "Adam steps corrected by their last change",
    "z' = z - 2h d + h d-, d = adam(F(z))",
    "Daskalakis et al. 2018, arXiv:1711.00141",
)

# Anchored to the start.

_register(
    "eag_c",
    "anchored to the start",
    _owned(anchored_extragradient, variant="eag_c"),
    "extragradient pulled back to the start, constant step; h = 1/(8L)",
    "w = z + (z0 - z)/(k+2) - h F(z); z' = z + (z0 - z)/(k+2) - h F(w)",
    "Yoon and Ryu 2021, arXiv:2102.07922",
    2,
    _PROJECTED,
)
_register(
    "eag_v",
    "anchored to the start",
    _owned(anchored_extragradient, variant="eag_v"),
    "extragradient pulled back to the start, slowly decreasing step; h = .618/L",
    "w = z + (z0 - z)/(k+2) - h_k F(z); z' = z + (z0 - z)/(k+2) - h_k F(w)",
    "Yoon and Ryu 2021, arXiv:2102.07922",
    2,
    _PROJECTED,
)
_register(
    "feg",
    "anchored to the start",
    _owned(anchored_extragradient, variant="feg"),
    "fast extragradient, anchored with a shortened look-ahead; h = 1/L",
    "b = 1/(k+1): w = z + b(z0 - z) - (1-b) h F(z); z' = z + b(z0 - z) - h F(w)",
    "Lee and Kim 2021, arXiv:2106.02326",
    2,
    _PROJECTED,
)
_register(
    "anchored_popov",
    "anchored to the start",
    _owned(anchored_extragradient, variant="popov"),
    "anchored, looking ahead with the past half point's field; h = 1/(2 sqrt(3) L)",
    "b = 1/(k+2): w = z + b(z0 - z) - (1-b) h_k F(w-); z' = z + b(z0 - z) - h_k F(w)",
    "Tran-Dinh and Luo 2021, arXiv:2110.08150",
    geometries=_PROJECTED,
)
_register(
    "halpern",
    "anchored to the start",
    _wrapped(halpern, _owned(proximal_point)),
    "proximal point steps mixed with the start",
    "z' = z0/(k+2) + (k+1)/(k+2) T(z), T(z) = z - h F(T(z))",
    "Halpern 1967; Diakonikolas 2020, arXiv:2002.08872",
    _newton_evaluations,
    _EUCLIDEAN,
)

# Integrators of the flow.

_register(
    "runge_kutta_2",
    "following the flow",
    _from(runge_kutta, order=2),
    "Heun's method, average of the field at both ends of the step",
    "w = z - h F(z); z' = z - h/2 (F(z) + F(w))",
    "Qin et al. 2020, arXiv:2010.15040",
    2,
    _EUCLIDEAN,
)
_register(
    "runge_kutta_4",
    "following the flow",
    _from(runge_kutta, order=4),
    "the classical Runge-Kutta method (ODE-GAN)",
    "z' = z - h/6 (k1 + 2 k2 + 2 k3 + k4)",
    "Qin et al. 2020, arXiv:2010.15040",
    4,
    _EUCLIDEAN,
)
_register(
    "proximal_point",
    "following the flow",
    _owned(proximal_point),
    "step along the field of the point reached (implicit, by Newton's method)",
    "z' = z - h F(z')",
    "Martinet 1970; Rockafellar 1976",
    _newton_evaluations,
    _EUCLIDEAN,
)

# Field and constraint split.

_register(
    "forward_backward_forward",
    "field and constraint split",
    _from(forward_backward_forward),
    "look ahead and project, then correct without projecting (Tseng)",
    "w = P(z - h F(z)); z' = w - h (F(w) - F(z))",
    "Tseng 2000",
    2,
    _PROJECTED,
)
_register(
    "forward_reflected_backward",
    "field and constraint split",
    _from(forward_reflected_backward),
    "optimistic steps, projected once",
    "z' = P(z - 2h F(z) + h F(z-))",
    "Malitsky and Tam 2020, arXiv:1808.04162",
    geometries=_PROJECTED,
)
_register(
    "projected_reflected_gradient",
    "field and constraint split",
    _from(projected_reflected_gradient),
    "step along the field of the reflected point",
    "z' = P(z - h F(2z - z-))",
    "Malitsky 2015, arXiv:1502.04968",
    geometries=_PROJECTED,
)
_register(
    "adaptive_golden_ratio",
    "field and constraint split",
    _owned(adaptive_golden_ratio),
    "steps from an averaged point, their size following the local curvature (aGRAAL)",
    "w = (z + 2 w-)/3; z' = P(w - h_k F(z)), h_0 = h",
    "Malitsky 2020, arXiv:1803.08832",
    geometries=_PROJECTED,
)

# Entropic steps on simplices.

_register(
    "multiplicative_weights",
    "entropic steps",
    _entropic(simultaneous),
    "entropic gradient steps on the simplex; the last iterate spirals outwards",
    "x'_i ~ x_i exp(-h g_i)",
    "Freund and Schapire 1999",
    on_simplex=True,
)
_register(
    "optimistic_multiplicative_weights",
    "entropic steps",
    _entropic(optimistic),
    "multiplicative weights with optimistic correction; the last iterate converges",
    "x'_i ~ x_i exp(-2h g_i + h g-_i)",
    "Daskalakis and Panageas 2019, arXiv:1807.04252",
    on_simplex=True,
)
_register(
    "mirror_prox",
    "entropic steps",
    _entropic(extragradient),
    "extragradient with entropic steps on the simplex",
    "w ~ z exp(-h F(z)); z' ~ z exp(-h F(w))",
    "Nemirovski 2004",
    2,
    on_simplex=True,
)

"""One form of registration: whoever registers something has it like the library's."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn import cli
from gamedyn.data import mixtures
from gamedyn.diffusion import samplers, schedules
from gamedyn.gan import losses, penalties

FACTS = {"summary": "one of a user's own", "source": "this test"}


def a_rule(step_size, num_players=2, geometry=None, twice=False):
    del num_players, geometry
    return gd.simultaneous(optax.sgd(step_size * (1 + twice)))


def a_field(game, step_size=0.1):
    del step_size
    return gd.fields.gradient(game)


def a_method(game, step_size, num_players, geometry, ratio=1.0):
    del num_players, geometry
    steps = optax.sgd(step_size), optax.sgd(ratio * step_size)
    return gd.fields.gradient(game), gd.alternating(*steps)


def a_game(strength=1.0):
    game = gd.zero_sum(lambda x, y: x**2 - y**2 + strength * x * y)
    return gd.games.Problem(game, lambda key: (jnp.ones(()), jnp.ones(())))


def a_penalty(discriminator, params, real, fake, key, /, *, weight=1.0):
    del real, key
    return weight * jnp.mean(jnp.square(discriminator(params, fake)))


def a_schedule(num_steps, beta=0.1):
    return schedules.from_betas(np.full(num_steps, beta))


def a_curve():
    return mixtures.curve(lambda end, key, number: jnp.full((number, 2), end), 1.0)


def a_sampler(chain, eta=0.5):
    return samplers.ddim(chain, eta=eta)


def a_plane():
    return mixtures.mixture([[-1.0, 0.0], [1.0, 0.0]], 0.1)


A_LOSS = losses.from_terms(lambda real, fake: (-real, fake))
CHAIN = schedules.linear(100)
GAME = a_game().game


class Kind(NamedTuple):
    module: Any
    word: str  # in messages
    thing: Any
    makes: Any  # the type
    facts: dict[str, Any] = {}
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # of the thing's own


PROVEN = {"family": "by hand", "formula": "z - h F", "guarantee": "none"}
KINDS = {
    "rules": Kind(gd.rules, "rule", a_rule, gd.Rule, PROVEN, (0.1,), {"twice": True}),
    "fields": Kind(
        gd.fields,
        "field",
        a_field,
        Partial,
        {**PROVEN, "work": gd.fields.Work(1.0)},
        (GAME,),
    ),
    "methods": Kind(
        gd.methods,
        "method",
        a_method,
        tuple,
        {**PROVEN, "field": "gradient", "rule": "alternating"},
        (GAME, 0.1),
        {"ratio": 2.0},
    ),
    "games": Kind(
        gd.games, "game", a_game, gd.games.Problem, options={"strength": 2.0}
    ),
    "losses": Kind(losses, "loss", A_LOSS, losses.Loss, {"formula": "f - r"}),
    "penalties": Kind(
        penalties,
        "penalty",
        a_penalty,
        functools.partial,
        {"formula": "E f^2", "differentiates": False},
        options={"weight": 3.0},
    ),
    "schedules": Kind(
        schedules,
        "schedule",
        a_schedule,
        schedules.Schedule,
        arguments=(100,),
        options={"beta": 0.2},
    ),
    "samplers": Kind(
        samplers,
        "sampler",
        a_sampler,
        samplers.Sampler,
        {"stochastic": True},
        (CHAIN,),
        {"eta": 1.0},
    ),
    "planes": Kind(
        mixtures, "plane set", a_plane, mixtures.PlaneMixture, {"points": 7}
    ),
    "curves": Kind(mixtures, "plane set", a_curve, mixtures.Curve, {"points": 10}),
}


@pytest.fixture(params=KINDS)
def kind(request):
    kind = KINDS[request.param]
    before = kind.module.names()
    yield kind
    if "of_my_own" in kind.module.names():
        kind.module.unregister("of_my_own")
    assert kind.module.names() == before


def test_a_life_in_the_registry(kind):
    module, word, thing, makes, facts, arguments, options = kind
    before, facts = module.names(), {**FACTS, **facts}
    with pytest.raises(ValueError, match=f"unknown .*{word} 'of_my_own'"):
        module.entry("of_my_own")

    assert module.register("of_my_own", thing, **facts) is not None
    assert set(module.names()) == {*before, "of_my_own"}
    assert module.entries()["of_my_own"] is module.entry("of-my-own")
    entry = module.entry("of_my_own")
    assert {fact: getattr(entry, fact) for fact in facts} == facts
    made = module.make("of-my-own", *arguments, **options)
    assert isinstance(made, makes)
    with pytest.raises(ValueError, match="did you mean.*of_my_own"):
        module.make("of_my_orn", *arguments)

    taken = f"the {word} 'of_my_own' is registered already"
    with pytest.raises(ValueError, match=taken):
        module.register("of_my_own", thing, **facts)
    with pytest.raises(ValueError, match=f"the {word} '{before[-1]}' is registered"):
        module.register(before[-1], thing, **facts)

    module.unregister("of-my-own")
    assert module.names() == before
    with pytest.raises(ValueError, match=f"unknown .*{word} 'of_my_own'"):
        module.unregister("of_my_own")


def test_as_a_decorator(kind):
    module, _, thing, _, facts, *_ = kind
    decorator = module.register("of_my_own", **FACTS, **facts)
    assert "of_my_own" not in module.names()
    decorated = decorator(thing)
    if module is gd.games:
        assert decorated.__wrapped__ is thing  # it stamps
    else:
        assert decorated is thing
    assert "of_my_own" in module.names()


def test_facts_are_keywords_and_known(kind):
    module, _, thing, _, facts, *_ = kind
    with pytest.raises(TypeError, match="positional"):
        module.register("of_my_own", thing, *FACTS.values(), **facts)
    with pytest.raises(TypeError, match="sumary"):
        module.register("of_my_own", thing, sumary="", **FACTS, **facts)
    with pytest.raises(TypeError, match="summary"):
        module.register("of_my_own", thing, source="", **facts)


def test_a_game_is_stamped_and_played():
    facts = {**FACTS, "shows": "a spiral", "solution": "Nash", "zero_sum": True}
    builder = gd.games.register("of_my_own", a_game, **facts)
    try:
        for problem in (builder(), gd.games.make("of-my-own")):
            info = problem.info
            assert (info.name, info.summary) == ("of_my_own", FACTS["summary"])
            assert (info.shows, info.solution) == ("a spiral", "Nash")
        problem = gd.games.make("of_my_own", strength=3.0)
        rule = gd.rules.make("extragradient", 0.1)
        end = jax.jit(lambda z: gd.solve(problem.game, rule, z, 100).params)
        assert max(map(abs, end(problem.init(None)))) < 1e-3
    finally:
        gd.games.unregister("of_my_own")


def test_a_game_is_compared_by_name(folder):
    gd.games.register("of_my_own", a_game, **FACTS)
    words = "compare of-my-own --rules extragradient --steps 20 --step-size .1"
    try:
        assert cli.main([*words.split(), "--out", "out"]) == 0
    finally:
        gd.games.unregister("of_my_own")
    assert "\nextragradient," in (folder / "out" / "table.csv").read_text()


def test_a_penalty_is_known_to_the_game():
    """What it looks at decides whether the generator can be given its negative."""
    arguments = (lambda theta, z: theta + 0 * z), (lambda phi, x: phi * x[:, 0])
    for uses_fake in (True, False):
        facts = {**FACTS, "formula": "", "uses_fake": uses_fake}
        penalties.register("of_my_own", a_penalty, **facts)
        try:
            penalty = penalties.make("of_my_own", weight=2.0)
            game = gd.gan.game(*arguments, "minimax", penalties=[penalty])
            assert game.zero_sum is not uses_fake
        finally:
            penalties.unregister("of_my_own")


def test_a_penalty_under_two_names():
    """Registered once more, or with its weight bound, it is the one it is given as."""
    facts = {**FACTS, "formula": "", "uses_fake": False}
    light = penalties.make("r1", weight=0.1)
    penalties.register("light_r1", light, **facts)
    penalties.register("again_r1", penalties.r1, **facts)
    try:
        assert gd.gan.terms.as_term(light).name == "light_r1"
        assert gd.gan.terms.as_term(penalties.r1).name == "r1"
    finally:
        penalties.unregister("light_r1")
        penalties.unregister("again_r1")


def test_options_of_penalties_are_checked():
    with pytest.raises(TypeError, match="wheight"):
        penalties.make("r1", wheight=1.0)


def test_a_loss_by_name_makes_a_game():
    losses.register("of_my_own", A_LOSS, formula="", **FACTS)
    try:
        networks = (lambda theta, z: theta + 0 * z), (lambda phi, x: phi * x[:, 0])
        named = gd.gan.game(*networks, "of-my-own", latent=gd.gan.normal(1))
        wasserstein = gd.gan.game(*networks, "wasserstein", latent=gd.gan.normal(1))
        batch = gd.gan.Batch(jnp.ones((4, 1)), jax.random.key(0))
        params = jnp.full((), 2.0), jnp.full((), 3.0)
        assert named(params, batch) == wasserstein(params, batch)
        assert named.zero_sum
    finally:
        losses.unregister("of_my_own")


def test_names_stand_in_the_order_of_the_files():
    """The library's own, in the order in which tables show them."""
    assert losses.names()[:3] == ("minimax", "non_saturating", "least_squares")
    assert penalties.names()[3:5] == ("r1", "r2")
    assert schedules.names()[::5] == ("linear", "zero_terminal_snr")
    assert samplers.names()[-2:] == ("heun", "predictor_corrector")
    assert gd.games.names() == tuple(sorted(gd.games.names()))


def test_a_hyphen_is_an_underscore(kind):
    module, word, thing, _, facts, *_ = kind
    module.register("of-my-own", thing, **FACTS, **facts)
    assert "of_my_own" in module.names()
    with pytest.raises(ValueError, match="is registered already"):
        module.register(module.names()[0].replace("_", "-"), thing, **FACTS, **facts)
    module.unregister("of-my-own")
    with pytest.raises(ValueError, match=f"unknown .*{word} 3;"):
        module.entry(3)


@pytest.mark.parametrize(
    "name", ["", "My Rule", "my rule", "Mine", "_mine", "2nd", "a/b/c", "a/", 3, None]
)
def test_names_are_in_snake_case(kind, name):
    module, word, thing, _, facts, *_ = kind
    message = f"the name of a {word} must be in snake case, like 'my_name.*got {name!r}"
    with pytest.raises(ValueError, match=message):
        module.register(name, thing, **FACTS, **facts)


def test_sets_of_points_alone_have_names_of_two_words(kind):
    module, _, thing, _, facts, *_ = kind
    if module is mixtures:
        module.register("of_my/own", thing, **FACTS, **facts)
        module.unregister("of-my/own")
    else:
        with pytest.raises(ValueError, match="snake case"):
            module.register("of_my/own", thing, **FACTS, **facts)


def test_what_is_registered_is_of_its_type(kind):
    module, word, thing, _, facts, *_ = kind
    wrong = thing.generator if module is losses else 3
    expected = "Loss" if module is losses else "Callable"
    message = f"the {word} 'of_my_own' must be a {expected}, got {type(wrong).__name__}"
    with pytest.raises(TypeError, match=message):
        module.register("of_my_own", wrong, **FACTS, **facts)
    with pytest.raises(TypeError, match=message):
        module.register("of_my_own", **FACTS, **facts)(wrong)


def test_the_name_of_a_game_is_stamped_as_it_is_kept():
    builder = gd.games.register("of-my-own", a_game, **FACTS)
    gd.games.unregister("of-my-own")
    assert builder().info.name == "of_my_own"


def test_a_game_is_a_problem():
    builder = gd.games.register("of_my_own", lambda: 3, **FACTS)
    gd.games.unregister("of_my_own")
    with pytest.raises(TypeError, match="'of_my_own' must return a Problem, got int"):
        builder()


@pytest.mark.parametrize("word", ["rules", "fields", "methods"])
@pytest.mark.parametrize(
    ("taken", "by"),
    [
        ("extragradient", "rule"),
        ("consensus", "field"),
        ("gradient", "field"),
        ("complete-newton", "field|method"),
        ("ode_gan", "method"),
    ],
)
def test_rules_fields_and_methods_share_their_names(word, taken, by):
    module, _, thing, _, facts, *_ = KINDS[word]
    if module is gd.methods:
        facts = {**facts, "field": "competitive"}
    before = module.names(), gd.methods.names()
    with pytest.raises(ValueError, match=f"the ({by}) '.*' is registered already"):
        module.register(taken, thing, **FACTS, **facts)
    assert (module.names(), gd.methods.names()) == before


def test_a_method_may_have_the_name_of_its_field():
    facts = {**FACTS, **PROVEN, "rule": "simultaneous"}
    gd.methods.register("consensus", a_method, field="consensus", **facts)
    try:
        assert gd.methods.entry("consensus").make is a_method
        with pytest.raises(ValueError, match="'consensus' is registered already"):
            gd.methods.register("consensus", a_method, field="consensus", **facts)
    finally:
        gd.methods.unregister("consensus")
    assert gd.methods.entry("consensus").make is not a_method


@pytest.mark.parametrize(
    ("kind", "fact", "error", "message"),
    [
        ("rules", {"geometries": "euclidean"}, TypeError, "'euclidean': expected"),
        ("rules", {"geometries": ("flat",)}, ValueError, "geometries flat: not among"),
        ("rules", {"needs": "zero-sum"}, TypeError, "'zero-sum': expected"),
        (
            "rules",
            {"needs": "zero-sum", "num_players": 2},
            TypeError,
            "expected a tuple",
        ),
        ("rules", {"evaluations": 0}, ValueError, "must be a positive integer, got 0"),
        ("fields", {"needs": "zero-sum"}, TypeError, "'zero-sum': expected"),
    ],
    indirect=["kind"],
)
def test_wrong_facts_are_refused(kind, fact, error, message):
    module, _, thing, _, facts, *_ = kind
    with pytest.raises(error, match=message):
        module.register("of_my_own", thing, **FACTS, **facts, **fact)


@pytest.mark.parametrize("start", [(1.0, 1.0), [1.0, 1.0]])
def test_a_start_is_no_function_that_draws_it(start):
    with pytest.raises(TypeError, match=r"must be a function.*lambda key: .1\.0, "):
        gd.Problem(GAME, start)

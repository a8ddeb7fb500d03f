"""Registries: names, hyphens, and help for the misspelt."""

import functools
import importlib
import inspect
import pkgutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rule_cases

import gamedyn as gd
from gamedyn.registry import Registry


@pytest.fixture
def registry():
    registry = Registry("rule")
    for number, name in enumerate(["extragradient", "past_extragradient", "adam"]):
        registry.add(name, number)
    return registry


def test_order_of_registration(registry):
    assert registry.names() == ("extragradient", "past_extragradient", "adam")
    assert list(registry) == list(registry.names())


@pytest.mark.parametrize("name", ["past_extragradient", "past-extragradient"])
def test_hyphens_are_accepted(registry, name):
    assert registry[name] == 1


@pytest.mark.parametrize(
    ("name", "nearest", "others"),
    [
        ("extragradeint", "extragradient", "adam"),
        ("past-extragrad", "past_extragradient", "adam"),
        ("adma", "adam", "extragradient"),
    ],
)
def test_unknown_names_suggest_the_nearest(registry, name, nearest, others):
    with pytest.raises(ValueError, match=f"unknown rule '{name}'; did you") as caught:
        registry[name]
    assert nearest in str(caught.value)
    assert others not in str(caught.value)


def test_nothing_near_lists_all(registry):
    with pytest.raises(
        ValueError, match="known: extragradient, past_extragradient, adam"
    ):
        registry["zzzzzz"]


def test_of_many_names_some_are_listed():
    many = Registry("rule")
    for number in range(15):
        many.add(f"rule_{number}", number)
    with pytest.raises(ValueError, match=r"known: rule_0, .* and 3 more$") as caught:
        many["zzzzzz"]
    assert "rule_11" in str(caught.value)
    assert "rule_12" not in str(caught.value)


def test_removed_names_are_unknown(registry):
    registry.remove("past-extragradient")
    assert registry.names() == ("extragradient", "adam")
    with pytest.raises(ValueError, match="unknown rule 'past_extragradient'"):
        registry.remove("past_extragradient")


def test_the_message_is_one_line(registry):
    with pytest.raises(ValueError, match="unknown") as caught:
        registry["extragradeint"]
    assert "\n" not in str(caught.value)


def test_duplicates_are_refused(registry):
    with pytest.raises(ValueError, match="the rule 'adam' is registered already"):
        registry.add("adam", 7)
    assert registry["adam"] == 2


def test_families_come_in_their_order():
    entries = {"a": "late", "b": "unheard of", "c": "early", "d": "late"}
    registry = Registry("rule", families=("early", "late"))
    for name, family in entries.items():
        registry.add(name, FamilyEntry(family))
    assert registry.names() == ("c", "a", "d", "b")
    assert tuple(registry.entries()) == tuple(registry) == registry.names()


class FamilyEntry(NamedTuple):
    family: str


@pytest.mark.parametrize("kind", [gd.rules, gd.fields], ids=["rules", "fields"])
def test_families_are_those_declared(kind):
    families = [entry.family for entry in kind.entries().values()]
    assert tuple(dict.fromkeys(families)) == kind.FAMILIES


TABLES = {
    "rules": gd.rules,
    "games": gd.games,
    "fields": gd.fields,
    "methods": gd.methods,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
class TestTheTables:
    def test_names_are_snake_case_and_unique(self, table):
        names = table.names()
        assert len(names) == len(set(names)) > 10
        assert all(name.isidentifier() and name == name.lower() for name in names)
        assert tuple(table.entries()) == names

    def test_entries_have_a_line_and_a_source(self, table):
        for name, entry in table.entries().items():
            assert entry.summary, name
            assert "\n" not in entry.summary, name
            assert entry.source, name

    def test_unknown_names(self, table):
        misspelt = table.names()[0][:-1] + "zz"
        game = gd.zero_sum(lambda x, y: x * y)
        arguments = {"rules": (0.1,), "games": ()}.get(
            table.__name__.removeprefix("gamedyn."), (game, 0.1)
        )
        with pytest.raises(ValueError, match=f"did you mean.*{table.names()[0]}"):
            table.make(misspelt, *arguments)


FACTS = {
    "family": "of my own",
    "summary": "what it does",
    "formula": "z' = z",
    "source": "this test",
    "guarantee": "none",
}


def my_rule(step_size, *, num_players=2, geometry=gd.geometry.euclidean):
    del num_players
    return gd.simultaneous(optax.sgd(step_size / 2), geometry=geometry)


def my_field(game, step_size=None):
    del step_size
    return gd.fields.consensus(game, 0.5)


def my_method(game, step_size, *, num_players, geometry):
    del num_players, geometry
    return gd.fields.gradient(game), gd.optimistic(optax.sgd(step_size))


OWN = {
    "rules": (gd.rules, my_rule, {}),
    "fields": (gd.fields, my_field, {"work": 2.8, "products": 1}),
    "methods": (gd.methods, my_method, {"field": "gradient", "rule": "optimistic"}),
}


@pytest.mark.parametrize("decorated", [False, True], ids=["call", "decorator"])
@pytest.mark.parametrize("kind", OWN)
def test_registration_of_a_users_own(kind, decorated):
    module, make, more = OWN[kind]
    before = module.names()
    if decorated:
        assert module.register("of_my_own", **FACTS, **more)(make) is make
    else:
        assert module.register("of_my_own", make, **FACTS, **more) is make
    try:
        assert set(gd.methods.names()) >= {"of_my_own"}
        assert module.names() == (*before, "of_my_own") or kind == "methods"
        entry = module.entry("of-my-own")
        assert {fact: getattr(entry, fact) for fact in FACTS} == FACTS
        game = gd.zero_sum(lambda x, y: x * y)
        field, rule = gd.methods.make("of_my_own", game, 0.1)
        start = jnp.array(1.0), jnp.array(1.0)
        assert gd.solve(field, rule, start, 3).status == gd.Status.OK
        with pytest.raises(ValueError, match="'of_my_own' is registered already"):
            module.register("of_my_own", make, **FACTS, **more)
    finally:
        module.unregister("of_my_own")
    assert module.names() == before
    with pytest.raises(ValueError, match="unknown"):
        module.entry("of_my_own")


@pytest.mark.parametrize("kind", ["rules", "fields"])
def test_needs_are_from_the_list(kind):
    module, make, more = OWN[kind]
    with pytest.raises(ValueError, match="needs patience: not among NEEDS"):
        module.register("of_my_own", make, **FACTS, **more, needs=("patience",))


@pytest.mark.parametrize("missing", ["field", "rule"])
def test_a_method_is_made_of_what_is_registered(missing):
    module, make, more = OWN["methods"]
    with pytest.raises(ValueError, match=f"unknown {missing} 'nothing'"):
        module.register("of_my_own", make, **FACTS, **{**more, missing: "nothing"})


def test_looking_up_a_method_describes_no_other(monkeypatch):
    described = []
    make = gd.methods._of_rule
    monkeypatch.setattr(
        gd.methods, "_of_rule", lambda name: described.append(name) or make(name)
    )
    assert gd.methods.entry("past-extragradient").rule == "past_extragradient"
    assert gd.methods.entry("consensus").field == "consensus"
    assert gd.methods.entry("ode_gan").rule == "runge_kutta_4"
    assert described == ["past_extragradient"]


def states():
    """All NamedTuples that a rule keeps."""
    for info in pkgutil.iter_modules(gd.rules.__path__, "gamedyn.rules."):
        module = importlib.import_module(info.name)
        for thing in vars(module).values():
            own = inspect.isclass(thing) and thing.__module__ == info.name
            if own and hasattr(thing, "_fields") and thing.__name__[0] != "_":
                yield thing


@pytest.mark.parametrize("state", list(states()), ids=lambda state: state.__name__)
def test_every_field_of_a_state_is_told(state):
    told = state.__doc__.partition("Attributes:")[2]
    for field in state._fields:
        assert f"\n        {field}: " in told, field


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("rules.extrapolation", "past_extragradient", "rules.extragradient"),
        ("rules.extrapolation", "optimistic", "rules.optimistic"),
        ("fields.lookahead", "lola", "fields.foreseen"),
    ],
)
def test_modules_that_moved(old, name, new):
    module = importlib.import_module(f"gamedyn.{old}")
    with pytest.warns(DeprecationWarning, match=f"moved to gamedyn.{new}"):
        thing = getattr(module, name)
    assert thing is getattr(importlib.import_module(f"gamedyn.{new}"), name)


class TestRulesFromTransformations:
    """A rule by name, with any transformation and two time scales."""

    PARAMS = (jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0]))
    GAME = gd.zero_sum(lambda x, y: jnp.vdot(x, y) + 0.1 * jnp.sum(x**2))

    def run(self, rule):
        with jax.numpy_dtype_promotion("standard"):
            return gd.solve(self.GAME, rule, self.PARAMS, 7).output

    def test_two_time_scales_with_adam(self):
        adam = functools.partial(optax.adam, b1=0.5)
        named = {
            "simultaneous": gd.simultaneous,
            "extragradient": gd.extragradient,
            "optimistic": gd.optimistic,
            "lookahead": lambda *steps: gd.lookahead(
                gd.simultaneous(*steps), period=5, strength=0.5
            ),
        }
        for name, builder in named.items():
            got = self.run(gd.rules.make(name, (0.1, 0.2), transformation=adam))
            expected = self.run(builder(adam(0.1), adam(0.2)))
            jax.tree.map(np.testing.assert_array_equal, got, expected)
        words = {"order": (1, 1, 0), "resample": False}
        got = gd.rules.make("alternating", (0.1, 0.2), transformation=adam, **words)
        expected = gd.alternating(adam(0.1), adam(0.2), **words)
        jax.tree.map(np.testing.assert_array_equal, self.run(got), self.run(expected))

    @pytest.mark.parametrize("name", gd.rules.names())
    def test_either_it_takes_one_or_it_says_so(self, name):
        entry = gd.rules.entries()[name]
        if entry.takes_transformation:
            rule_cases.make(name, (0.1, 0.2), transformation=optax.adam)
            return
        for arguments in (((0.1, 0.2), {}), (0.1, {"transformation": optax.adam})):
            with pytest.raises(ValueError, match=f"{name} owns its steps"):
                gd.rules.make(name, arguments[0], **arguments[1])


@pytest.mark.parametrize("name", gd.methods.names())
def test_step_sizes_are_checked(name):
    """By name every method takes positive numbers, and rules schedules, too."""
    game = gd.zero_sum(lambda x, y: x * y)
    options = rule_cases.options(name) if name in gd.rules.names() else {}

    def make(step_size):
        return gd.methods.make(name, game, step_size, **options)

    for wrong in (-0.1, 0, float("nan"), float("inf"), jnp.float32(-1)):
        with pytest.raises(ValueError, match=f"step size of {name} must be positive"):
            make(wrong)
    for wrong in ("fast", None, True, 1j, jnp.ones(2)):
        with pytest.raises(TypeError, match=f"step size of {name} must be a positive"):
            make(wrong)
    jax.eval_shape(lambda h: make(h) and h, 0.1)  # a traced one is not looked at
    if name in gd.rules.names() and gd.rules.entries()[name].takes_transformation:
        gd.rules.make(name, optax.linear_schedule(0.1, 0, 10), **options)
        with pytest.raises(ValueError, match=f"step size of {name} must be positive"):
            gd.rules.make(name, (0.1, -0.1), **options)


def test_methods_are_made_of_games():
    field = gd.fields.gradient(gd.zero_sum(lambda x, y: x * y))
    with pytest.raises(TypeError, match="made of a Game, got Partial"):
        gd.methods.make("consensus", field, 0.1)
    with pytest.raises(TypeError, match="made by name of a Game, got Partial"):
        gd.fields.make("consensus", field, 0.1)


@pytest.mark.parametrize("name", gd.rules.names())
def test_columns_of_rules(name):
    entry = gd.rules.entries()[name]
    assert entry.guarantee
    assert "\n" not in entry.guarantee + entry.formula
    assert set(entry.needs) <= set(gd.rules.NEEDS)
    assert ("two players" in entry.needs) == (entry.num_players == 2)
    assert ("simplex" in entry.needs) == entry.on_simplex
    rule = rule_cases.make(name, 0.1)
    several = rule.num_batches > 1
    assert ("independent batches" in entry.needs) == several
    assert entry.products >= 0
    assert not entry.flops <= 0  # NaN where it is no multiple of a gradient

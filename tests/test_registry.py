"""Registries: names, hyphens, and help for the misspelt."""

import functools

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

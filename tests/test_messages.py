"""What people type by mistake gives one line: what was got, and what was expected."""

import contextlib
import dataclasses
import html
import io
import re
import sys
import unicodedata

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given

import gamedyn as gd
from gamedyn import checks, text
from gamedyn.cli import main

ONE, TWO = jnp.array(1.0), jnp.array(2.0)
START = (ONE, TWO)
GAME = gd.zero_sum(lambda x, y: x * y)
NOISY = gd.zero_sum(
    lambda x, y, key: x * y + x * jax.random.normal(key, ()), stochastic=True
)
SGD = optax.sgd(0.1)
RULE = gd.extragradient(SGD)
KEY = jax.random.key(0)
CUBE = np.ones((2, 2))


def problem(**options):
    return gd.Problem(**{"game": GAME, "init": lambda key: START} | options)


def solve(game=GAME, rule=RULE, start=START, num_steps=2, **options):
    return gd.solve(game, rule, start, num_steps, **options)


def until(**options):
    given = {"tolerance": 0.1, "max_steps": 2} | options
    return gd.solve_until(GAME, RULE, START, **given)


def loss(value):
    return solve(gd.zero_sum(lambda x, y: value))


def losses(*functions, **options):
    return solve(gd.general_sum(*functions, **options), key=KEY)


def branch(x, y):
    return x if x > y else y


MISTAKES = {
    # Problems
    "a start for init": (lambda: problem(init=START), "init must be .*got tuple of 2"),
    "an array for init": (lambda: problem(init=CUBE), "got ndarray of shape"),
    "init without key": (
        lambda: problem(init=lambda: START),
        r"init must be a function of \(key\), got one of \(\)",
    ),
    "losses for the game": (
        lambda: problem(game=lambda x, y: x * y),
        "game must be a Game.*got function <lambda>",
    ),
    "a matrix for the game": (lambda: problem(game=CUBE), "game must be a Game"),
    "one solution, bare": (lambda: problem(solutions=START), r"is \(\(x, y\),\)"),
    "a solution of one": (lambda: problem(solutions=((ONE,),)), "2 players, got 1"),
    "sample a batch": (lambda: problem(sample=CUBE), "sample must be a function"),
    "domain not called": (
        lambda: problem(geometry=gd.geometry.simplex),
        r"Geometry.*got function simplex: call it, simplex\(",
    ),
    "domain by name": (lambda: problem(geometry="simplex"), "got str 'simplex'"),
    "three domains": (
        lambda: problem(geometry=(gd.geometry.simplex(),) * 3),
        "2 players, got 3",
    ),
    # Runs
    "a problem to solve": (
        lambda: solve(gd.games.make("bilinear")),
        "expected a Game.*got Problem.*problem.game",
    ),
    "a game by name": (lambda: solve("bilinear"), r"got str 'bilinear'.*games\.make"),
    "a loss for a field": (
        lambda: solve(lambda x, y: x * y),
        "a function that fails as a field.*zero_sum",
    ),
    "a rule by name": (
        lambda: solve(rule="extragradient"),
        r"expected a Rule, got str 'extragradient': .*rules\.make",
    ),
    "an optimizer for a rule": (lambda: solve(rule=SGD), r"simultaneous\(optimizer\)"),
    "a builder for a rule": (
        lambda: solve(rule=gd.extragradient),
        "got function extragradient",
    ),
    "rule and game swapped": (lambda: solve(RULE, GAME), "expected a Rule, got Game"),
    "a list of players": (lambda: solve(start=[ONE, TWO]), r"list of 2: write \(x, y"),
    "a dict of players": (lambda: solve(start={"x": ONE}), "got dict of 1"),
    "an array of players": (lambda: solve(start=jnp.ones(2)), "must be a tuple"),
    "one player too few": (lambda: solve(start=(ONE,)), "2 players, got 1"),
    "a lonely player, bare": (
        lambda: solve(gd.single_player(lambda x: x**2), start=ONE),
        r"that of one player is \(x,\)",
    ),
    "integers": (
        lambda: solve(start=(1, 2)),
        r"dtype int.* write 1\.0",
    ),
    "strings": (lambda: solve(start=("a", "b")), r"got str 'a' at params\[0\]"),
    "a solution for a point": (
        lambda: solve(start=solve()),
        r"expected its solution\.params",
    ),
    "steps as a float": (lambda: solve(num_steps=10.0), "positive integer, got 10.0"),
    "steps traced": (
        lambda: jax.jit(lambda n: solve(num_steps=n))(10),
        "num_steps must be .*got a traced .*static_argnames",
    ),
    "a seed for a key": (lambda: solve(NOISY, key=0), r"int 0: jax\.random\.key\(0\)"),
    "a seed for no key": (lambda: solve(key=7), r"int 7: jax\.random\.key\(7\)"),
    "numpy's generator": (
        lambda: solve(NOISY, key=np.random.default_rng(0)),
        "key must be one key.*got Generator",
    ),
    "several keys": (
        lambda: solve(NOISY, key=jax.random.split(KEY, 3)),
        r"one key.*of shape \(3,\)",
    ),
    "floats for a key": (lambda: solve(NOISY, key=jnp.ones(2)), "must be one key"),
    "a key too little": (lambda: solve(NOISY), "stochastic game needs batches: .*key="),
    "sample without a key": (
        lambda: solve(NOISY, sample=lambda key: key),
        "sample was given without a key",
    ),
    "sample of nothing": (
        lambda: solve(NOISY, key=KEY, sample=lambda: ONE),
        r"sample must be a function of \(key\)",
    ),
    "a batch for sample": (
        lambda: solve(NOISY, key=KEY, sample=ONE),
        r"sample must be .* of shape \(\)",
    ),
    "record of the point": (
        lambda: solve(record=lambda z: z),
        r"of \(params, rule_state, batches, step\), got one of \(z\)",
    ),
    "record as a switch": (lambda: solve(record=True), "record must be.*got bool True"),
    "record of words": (
        lambda: solve(record=lambda z, s, b, k: "x"),
        "must return a pytree of arrays, got str 'x'",
    ),
    "another rule's state": (
        lambda: solve(rule_state=START),
        "is not a state of",
    ),
    "a field of one player": (
        lambda: solve(lambda z, batch=None: (z[0],)),
        "the field must return what the parameters are",
    ),
    "several tolerances": (
        lambda: until(tolerance=jnp.ones(2)),
        r"tolerance must be a positive number, got .*shape \(2,\)",
    ),
    "tolerance in words": (
        lambda: until(tolerance="1e-3"),
        "tolerance must be a positive number, got '1e-3'",
    ),
    "residual of the point": (
        lambda: until(residual=lambda z: 0.0),
        r"residual must be a function of \(params, direction\)",
    ),
    "residual by player": (
        lambda: until(residual=lambda z, v: jnp.stack(v)),
        r"residual must return a scalar, got .*shape \(2,\)",
    ),
    "residual on no domain": (
        lambda: until(geometry=gd.geometry.simplex),
        "expected a Geometry.*call it",
    ),
    # Losses
    "stochastic forgotten": (
        lambda: solve(gd.zero_sum(lambda x, y, b: x * y), key=KEY),
        r"payoff must be a function of \(x, y\), got one of \(x, y, b\).*stochastic=T",
    ),
    "stochastic forgotten by several": (
        lambda: losses(lambda x, y, b: x, lambda x, y, b: y),
        r"player 0 must be a function of \(z0, z1\).*stochastic=True",
    ),
    "stochastic for nothing": (
        lambda: losses(lambda x, y: x, lambda x, y: y, stochastic=True),
        r"function of \(z0, z1, batch\), got one of \(x, y\)",
    ),
    "one function for all": (
        lambda: losses(lambda x, y: (x * y, -x * y)),
        "one function per player",
    ),
    "a list of functions": (
        lambda: gd.general_sum([lambda x: x]),
        "must be a function.*got list of 1",
    ),
    "a matrix for a loss": (
        lambda: gd.zero_sum(CUBE),
        r"got ndarray of shape \(2, 2\)",
    ),
    "a formula for a loss": (lambda: gd.zero_sum("x*y"), r"got str 'x\*y'"),
    "no return": (lambda: loss(None), "got None: does its function return"),
    "a vector": (lambda: loss(jnp.ones(2)), r"must be a scalar, got an array of .*2,"),
    "a pair": (lambda: loss((ONE, ONE)), "must be a scalar, got"),
    "a dict": (lambda: loss({"loss": ONE}), "must be a scalar, got dict of 1"),
    "a word": (lambda: loss("x"), "must be a scalar, got str 'x'"),
    "an integer": (lambda: loss(1), "floating-point number, got dtype int"),
    "a comparison": (lambda: loss(ONE > TWO), "floating-point number, got dtype bool"),
    "a complex loss": (lambda: loss(1j * ONE), "floating-point number, got dtype comp"),
    "no return of one": (
        lambda: losses(lambda x, y: x * y, lambda x, y: None),
        "loss of player 1 must be a scalar, got None",
    ),
    "python's float": (
        lambda: solve(gd.zero_sum(lambda x, y: float(x) * y)),
        "takes the value of what jax traces",
    ),
    "numpy's functions": (
        lambda: solve(gd.zero_sum(lambda x, y: np.asarray(x) * y)),
        "takes the value of what jax traces",
    ),
    "a branch": (lambda: solve(gd.zero_sum(branch)), "takes the value.*jnp.where"),
    # Rules
    "lookahead of an optimizer": (
        lambda: gd.lookahead(SGD, period=5, strength=0.5),
        "lookahead takes a Rule, got GradientTransf.*simultaneous",
    ),
    "lookahead of an optimizer alone": (
        lambda: gd.lookahead(SGD),
        "lookahead takes a Rule, got GradientTransf.*simultaneous",
    ),
    "lookahead of a name": (
        lambda: gd.lookahead("extragradient", period=5, strength=0.5),
        "lookahead takes a Rule, got str",
    ),
    "lookahead half way": (
        lambda: gd.lookahead(RULE, period=5, strength="half"),
        r"strength must be a number in \(0, 1\], got str",
    ),
    "averaged optimizer": (lambda: gd.averaged(SGD), "averaged takes a Rule"),
    "decay in words": (
        lambda: gd.averaged(RULE, kind="exponential", decay="a"),
        "decay must be a number",
    ),
    "restarted optimizer": (
        lambda: gd.rules.restarted(SGD, period=3),
        "restarted takes a Rule",
    ),
    "mixed optimizer": (lambda: gd.rules.anderson(SGD), "anderson takes a Rule"),
    "anchored optimizer": (lambda: gd.halpern(SGD), "halpern takes a Rule"),
    "a step size alone": (lambda: gd.extragradient(0.1), r"optax\.sgd.*got float 0\.1"),
    "a rule of a rule": (
        lambda: gd.extragradient(RULE),
        "got Rule: rules of",
    ),
    "an optimizer not made": (lambda: gd.extragradient(optax.sgd), "sgd: call it"),
    "a list of optimizers": (
        lambda: gd.extragradient([SGD, SGD]),
        "list of 2: one",
    ),
    "a domain by position": (
        lambda: gd.extragradient(gd.geometry.simplex()),
        "got Geometry: a geometry is given by name",
    ),
    "steps on no domain": (
        lambda: gd.extragradient(SGD, geometry=gd.geometry.simplex),
        "extragradient takes a Geometry.*call it",
    ),
    "domains in a list": (
        lambda: gd.alternating(SGD, geometry=[gd.geometry.simplex()]),
        "alternating takes a Geometry.*several are a tuple",
    ),
    "three optimizers": (
        lambda: solve(rule=gd.simultaneous(SGD, SGD, SGD)),
        "optimizer.*2 players, got 3",
    ),
    # Domains
    "a box of arrays": (
        lambda: gd.geometry.box(np.zeros(2), np.ones(2)),
        r"lower must be one known number, got ndarray.*jnp\.clip",
    ),
    "a box of jax's arrays": (
        lambda: gd.geometry.box(jnp.zeros(2), jnp.ones(2)),
        "lower must be one known number",
    ),
    "a box of lists": (lambda: gd.geometry.box([0], [1]), "got list of 1"),
    "a box of words": (lambda: gd.geometry.box("a", "b"), "got str 'a'"),
    "a box of tracers": (
        lambda: jax.jit(lambda c: gd.geometry.box(-c, c))(1.0),
        "got a traced value",
    ),
    "a box upside down": (lambda: gd.geometry.box(1, 0), "lower <= upper"),
    "a simplex of weights": (lambda: gd.geometry.simplex(jnp.ones(3)), "scale must be"),
    "a ball of a list": (
        lambda: gd.geometry.l2_ball([1.0]),
        "radius must be one",
    ),
    "a projection of a set": (
        lambda: gd.geometry.projected(gd.geometry.simplex()),
        "it is a geometry already",
    ),
    "proximal upside down": (
        lambda: gd.geometry.proximal(1.0, gd.geometry.soft_threshold),
        r"function of \(point, step\), got float",
    ),
    # Analyses
    "certify a rule's name": (
        lambda: gd.analysis.certify(GAME, START, rule="extragradient"),
        "certify takes a Rule, got str",
    ),
    "certify an optimizer": (
        lambda: gd.analysis.certify(GAME, START, rule=SGD),
        "certify takes a Rule",
    ),
    "certify a problem": (
        lambda: gd.analysis.certify(problem(), START),
        "expected a Game, got Problem.*problem.game",
    ),
    "radius of a name": (
        lambda: gd.analysis.spectral_radius(GAME, "extragradient", START),
        "takes a Rule, got str",
    ),
    "errors in words": (
        lambda: gd.analysis.certify(GAME, START, error="none"),
        "error must be a number, got str",
    ),
    "one ratio": (
        lambda: gd.analysis.timescale_stability(GAME, START, 2.0),
        "taus must be a sequence of numbers, got float",
    ),
    "a game for its name": (
        lambda: gd.games.make(GAME),
        "unknown game Game; expected a name",
    ),
    "points without labels": (
        lambda: gd.analyse(problem(), [START, START]),
        r"pairs of a label and a point, .*got list of 2",
    ),
    "the field of a problem": (
        lambda: gd.fields.gradient(problem()),
        "gradient is made of losses: expected a Game, got Problem",
    ),
    # Sweeps
    "a list of points": (
        lambda: gd.sweep(lambda x: x, [0.1, 0.2]),
        r"one leading axis.*jnp\.array",
    ),
    "points as words": (lambda: gd.sweep(lambda x: x, "abc"), "arrays.*got str 'abc'"),
    "sweep swapped": (
        lambda: gd.sweep(jnp.ones(3), abs),
        r"function of \(point\), got",
    ),
    "sweep of two": (
        lambda: gd.sweep(lambda x, y: x, jnp.ones(3)),
        r"got one of \(x, y\)",
    ),
    # Names
    "a game misspelt": (lambda: gd.games.bilinaer, "did you mean bilinear"),
    "a rule misspelt": (lambda: gd.rules.extragradeint, "did you mean extragradient"),
    "a rule as a class": (lambda: gd.rules.Extragradient, "did you mean extragradient"),
    "a field misspelt": (lambda: gd.fields.competetive, "did you mean competitive"),
    "an analysis misspelt": (lambda: gd.analysis.certfy, "did you mean certify"),
    "a set misspelt": (lambda: gd.geometry.simplx, "did you mean simplex"),
    "misspelt": (lambda: gd.zerosum, "did you mean zero_sum"),
    "elsewhere": (lambda: gd.certify, r"there is gamedyn\.analysis\.certify"),
    "a game elsewhere": (lambda: gd.bilinear, r"there is gamedyn\.games\.bilinear"),
    "by registration": (lambda: gd.rules.feg, r"there is gamedyn\.rules\.make\('feg'"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_are_one_line(kind):
    mistake, message = MISTAKES[kind]
    kinds = (TypeError, ValueError, AttributeError)
    with pytest.raises(kinds, match=message) as error:
        mistake()
    # Within a jitted function jax adds lines of its own.
    said = str(error.value).partition("\n----")[0]
    assert "\n" not in said
    assert len(said) < 320
    assert "object at 0x" not in said
    frame = error.tb
    while frame.tb_next is not None:
        frame = frame.tb_next
    assert "gamedyn" in frame.tb_frame.f_code.co_filename


def test_what_is_right_passes():
    """The checks stop nobody: odd but sound arguments."""
    defaults = gd.zero_sum(lambda x, y, strength=2.0: strength * x * y)
    many = gd.general_sum(lambda *z: z[0] ** 2, lambda *z: z[1] ** 2)
    named = gd.zero_sum(jnp.multiply)
    for game in (defaults, many, named):
        solve(game)
    solve(NOISY, key=jax.random.PRNGKey(0))
    solve(GAME, key=KEY)
    first = solve()
    gd.solve(GAME, RULE, first.params, 2, rule_state=first.rule_state, start=2)
    # A loss that is a mean without a batch needs no key.
    mean = gd.zero_sum(lambda x, y, b: x * y if b is None else b * x, stochastic=True)
    solve(mean)
    assert gd.geometry.box(jnp.array(0.0), np.float32(1)) is gd.geometry.box(0.0, 1.0)
    assert gd.geometry.box(-np.inf, 1).kind == "projected"
    made = problem(solutions=[START], sample=lambda key: key)
    assert made.solutions == (START,)
    leaves, tree = jax.tree.flatten(made)
    assert jax.tree.unflatten(tree, [object()] * len(leaves)).info == made.info
    assert jax.tree.map(lambda leaf: leaf, made).geometry == made.geometry


def test_private_names_are_looked_up_in_silence():
    for module in (gd, gd.games, gd.geometry):
        assert not hasattr(module, "_ipython_display_")
        assert not hasattr(module, "__wrapped__")


def test_things_are_described_in_a_few_words():
    long = checks.described("x" * 1000)
    assert len(long) < 60
    assert checks.described(gd.games) == "module gamedyn.games"
    assert checks.described(GAME) == "Game"
    assert checks.described(jnp.ones(2)) == "ArrayImpl of shape (2,)"


# Text for its reader

NASTY = [
    "[/x]",
    "[bold]x[/bold]",
    ":smile:",
    "pay$\\frac$",
    "$\\undefined{$ $",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnp.csv",
    "zero\u200bwidth",
    "\x9b2J",
    "two\nlines\r",
    "<script>alert('&\"')</script>",
    "\udcff\udc80",
    "_x",
    "tab\tstop",
    "'; \\ `",
    "*?",
]


def is_safe(shown):
    categories = {unicodedata.category(c) for c in shown if c != "\n"}
    return not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("name", NASTY)
def test_names_are_escaped_for_their_reader(name):
    shown = text.for_terminal(name)
    assert is_safe(shown)
    assert "\n" not in shown
    assert text.for_terminal(shown) == shown
    shown.encode()
    page = text.for_html(name)
    assert not set(page) & set("<>\"'")
    assert html.unescape(page) == shown
    folder = text.file_name(name)
    assert re.fullmatch(r"[\w+-][\w.+-]*", folder)


@given(st.text(st.characters(), max_size=20))
def test_any_text_is_safe_on_a_terminal(name):
    shown = text.for_terminal(name)
    assert is_safe(shown)
    if is_safe(name) and "\n" not in name:
        assert shown == name


def test_formulas_in_names_are_none_in_pictures():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    axis = figure.subplots()
    for name in NASTY:
        axis.plot([1], label=text.for_mathtext(f"x{name}"))
        title = axis.set_title(text.for_mathtext(name))
        shown = title._preprocess_math(title.get_text())
        assert shown == (text.for_terminal(name), False)
    axis.legend()
    figure.savefig(io.BytesIO(), dpi=20)


@pytest.fixture
def nasty_rows():
    """A comparison whose game and rows have nasty names."""
    from gamedyn.workbench.compare import compare

    plain = compare(GAME, START, ["extragradient"], step_size=0.1, evaluations=20)
    names = ["".join(NASTY[:7]), "".join(NASTY[7:]), "[/x]"]
    rows = tuple(dataclasses.replace(plain.rows[0], name=name) for name in names)
    curve = plain.curves["extragradient"]
    info = dataclasses.replace(plain.problem.info, name=NASTY[0], summary=NASTY[10])
    return dataclasses.replace(
        plain,
        rows=rows,
        curves=dict.fromkeys(names, curve),
        problem=dataclasses.replace(plain.problem, info=info),
        settings=plain.settings | {"game": "".join(NASTY)},
    )


def test_reports_show_names_as_they_are(nasty_rows, tmp_path):
    from gamedyn.workbench import report
    from gamedyn.workbench.race import full_field

    field = full_field(nasty_rows.problem)[0]
    report.write(nasty_rows, tmp_path, field, "gamedyn " + "".join(NASTY))
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert "\x1b" not in page
    assert all(text.for_html(row.name) in page for row in nasty_rows.rows)
    table = (tmp_path / "table.csv").read_text("utf-8")
    assert "[/x]" in table
    assert (tmp_path / "convergence.png").stat().st_size > 1000
    with np.load(tmp_path / "trajectories.npz") as curves:
        assert "[/x]/residual" in curves.files


def test_consoles_take_text_literally(monkeypatch):
    from rich.table import Table

    from gamedyn.commands import shared

    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    console = shared.console()
    for name in NASTY:
        console.print(name)
        console.print(name, style="bold")
        table = Table()
        table.add_column(name)
        table.add_row(name)
        console.print(table)
    shared.print_summary({name: name for name in NASTY})
    printed = out.getvalue()
    assert is_safe(printed)
    for name in NASTY[:5]:
        assert name in printed


@pytest.mark.parametrize("name", [name for name in NASTY if "/" not in name])
def test_errors_and_options_reach_the_terminal_escaped(name, folder, capsys):
    for arguments in (
        ["compare", name],
        ["compare", "--matrix", f"{name}.csv"],
        ["analyse", "bilinear", "--at", name],
        ["compare", "--steps", name],
        [name],
        ["list", name],
        ["compare", "--rules", name, "--from", name],
        ["sample", name],
    ):
        code = None
        with contextlib.suppress(SystemExit):
            code = main(arguments)
        error = capsys.readouterr().err
        assert code in (2, None)
        assert is_safe(error), arguments


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--steps", "1_0", "write it without underscores"),
        ("--steps", "1e3", "is not a whole number"),
        ("--seeds", "٣", "digits 0 to 9"),
        ("--noise", "1,5", "the decimal sign is a point"),
        ("--noise", "0x1", "decimal digits"),
        ("--noise", "nan", "not finite"),
        ("--step-size", "1_0", "without underscores"),
        ("--step-size", "0,1", "the decimal sign is a point"),
    ],
)
def test_numbers_of_options_are_read_strictly(option, value, message, folder, capsys):
    with contextlib.suppress(SystemExit):
        main(["compare", "bilinear", option, value])
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_nasty_names_of_files_and_folders_cost_no_results(folder, capsys):
    name = "pay$\\frac$ [x] :smile: \x1b[31m\u202e$y$.csv"
    (folder / name).write_text("1,-1\n-1,.5\n", "utf-8")
    command = ["--matrix", name, "--out", "o[/x]6"]
    rules = ["--rules", "extragradient", "--steps", "20", "--step-size", ".1"]
    assert main(["compare", *command, *rules]) == 0
    printed = capsys.readouterr().out
    assert is_safe(printed)
    assert "o[/x]6" in printed
    page = (folder / "o[" / "x]6" / "report.html").read_text("utf-8")
    assert is_safe(page)

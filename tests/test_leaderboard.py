"""The leaderboard: the same numbers however it is computed, and honest scores."""

import csv
import dataclasses
import html.parser
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import leaderboard
from experiments.leaderboard import files, games, pairs, scores
from gamedyn import methods, recipes

TABLES = ("pairs.csv", "runs.csv")
SMALL = pairs.Settings(
    budget=400,
    grid=(0.05, 0.5),
    tune_seeds=(0,),
    report_seeds=(100, 101),
    tolerance=1e-6,
    noisy_tolerance=0.1,
)


def run(config):
    return recipes.run(leaderboard, config)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """The short run, by two processes."""
    out = tmp_path_factory.mktemp("board") / "two"
    config = dataclasses.replace(leaderboard.SMOKE, out=out, processes=2)
    return out, run(config)


def start(*options):
    """Start a run in a process of its own, to be killed."""
    command = "import sys; from gamedyn.cli import main; sys.exit(main())"
    root = str(Path(leaderboard.__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", command, "train", "leaderboard", *options],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": root},
    )


def results(out):
    return sorted(out.glob("pairs/*/*/*.json"))


def test_killed_and_resumed_by_one_process(board, tmp_path):
    """SIGKILL in the middle, one result lost, one damaged: the same bytes."""
    two, _ = board
    config = dataclasses.replace(leaderboard.SMOKE, out=tmp_path / "one", processes=1)
    process = start("--smoke", f"--out={config.out}", "--processes=1")
    while process.poll() is None and len(results(config.out)) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = results(config.out)
    assert 3 <= len(done) < 8
    assert not (config.out / "pairs.csv").exists()
    lost, damaged, kept = done[:3]
    lost.unlink()
    damaged.write_text(damaged.read_text()[:20])
    before = kept.stat().st_mtime_ns
    run(dataclasses.replace(config, resume=True))
    assert kept.stat().st_mtime_ns == before
    for name in TABLES:
        assert (config.out / name).read_bytes() == (two / name).read_bytes()
    assert [p.name for p in results(config.out)] == [p.name for p in results(two)]
    for mine, other in zip(results(config.out), results(two), strict=True):
        assert mine.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_killed_at_many_moments(board, tmp_path):
    two, _ = board
    config = dataclasses.replace(leaderboard.SMOKE, out=tmp_path / "one", processes=2)
    draw = random.Random(0)
    process = start("--smoke", f"--out={config.out}", "--processes=2")
    while not (config.out / "run.json").exists():
        time.sleep(0.02)
    for _ in range(12):
        time.sleep(draw.uniform(0.0, 6.0))
        process.kill()
        process.wait()
        process = start(f"--resume={config.out}")
    assert process.wait() == 0
    for name in TABLES:
        assert (config.out / name).read_bytes() == (two / name).read_bytes()
    assert not list(config.out.rglob("*.tmp"))


def test_other_settings_are_not_mixed_in(board, tmp_path):
    out, _ = board
    pair = pairs.Pair("deterministic", "bilinear", "extragradient")
    settings = files.read_settings(out)
    assert settings == leaderboard.settings_of(leaderboard.SMOKE)
    found = files.read_result(out, pair, settings.digest())
    assert found is not None
    assert len(found["costs"]) == 2
    for changed in (
        settings._replace(budget=401),
        settings._replace(versions=(("jax", "0"),)),
    ):
        assert files.read_result(out, pair, changed.digest()) is None


def test_tables(board):
    out, summary = board
    assert summary["methods"] == 2
    assert summary["games"] == 4
    assert summary["pairs"] == 6
    with (out / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    found = {(r["track"], r["game"], r["method"]): r for r in rows}
    extra = found["deterministic", "bilinear", "extragradient"]
    anchored = found["deterministic", "bilinear", "halpern"]
    # x·y at step h: extragradient shrinks by sqrt(1 - h^2 + h^4) in two evaluations,
    # Halpern's steps fall with their number.
    h = float(extra["step_size"])
    due = math.log(1e-6) / math.log(math.sqrt(1 - h**2 + h**4))
    assert float(extra["steps"]) == pytest.approx(math.ceil(due), abs=1)
    assert float(extra["evaluations"]) == 2 * float(extra["steps"])
    assert extra["solved"] == "2"
    assert (anchored["solved"], anchored["slow"]) == ("0", "2")
    assert float(anchored["evaluations"]) == math.inf
    with (out / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == summary["runs"] == 12
    mine = [
        float(r["evaluations"])
        for r in runs
        if (r["track"], r["game"], r["method"])
        == ("deterministic", "bilinear", "extragradient")
    ]
    assert np.median(mine) == float(extra["evaluations"])


class Page(html.parser.HTMLParser):
    """What a page loads, links to, and holds in its rows."""

    def __init__(self):
        super().__init__()
        self.loads, self.links, self.ids, self.rows = [], [], set(), []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if "src" in values:
            self.loads.append(values["src"])
        if tag in ("link", "iframe", "object", "embed"):
            self.loads.append(tag)
        if "href" in values:
            self.links.append(values["href"])
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_page_needs_nothing_else_and_has_all_rows(board):
    out, _ = board
    text = (out / "leaderboard.html").read_text()
    page = Page()
    page.feed(text)
    assert page.loads
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert all(link.startswith(("#", "https://arxiv.org/abs/")) for link in page.links)
    assert {link[1:] for link in page.links if link[0] == "#"} <= page.ids
    assert "@import" not in text
    assert "url(" not in text
    named = [row[0] for row in page.rows if row]
    for name in leaderboard.SMOKE.methods:
        # Both leaderboards, and a map for each group it is for.
        assert named.count(name) == (4 if name == "halpern" else 5)
    for name in ("bilinear", "matching pennies"):
        assert named.count(name) == 2
    words = " ".join(text.split())
    assert "is not defined on projected geometry" in words
    assert "4 from 0.001/L to 10/L" in words
    assert "Tuning thus spends 1600 evaluations" in words
    for package, version in pairs.versions():
        assert f"&quot;{package}&quot;: &quot;{version}&quot;" in words


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_page_sorts_in_a_browser(board, tmp_path):
    out, _ = board
    text = (out / "leaderboard.html").read_text()
    click = """<script>
    const table = document.querySelector('table.sorts');
    const heads = Array.from(table.tHead.rows[0].cells);
    const at = heads.findIndex(h => h.textContent === 'solved %');
    const column = () => Array.from(table.tBodies[0].rows).map(
        r => Number(r.cells[at].textContent)).join();
    heads[at].click(); const up = column(); heads[at].click();
    document.title = up + ';' + column();
    </script></body>"""
    path = tmp_path / "page.html"
    path.write_text(text.replace("</body>", click))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=60
    )
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    up, down = ([float(x) for x in part.split(",")] for part in title.split(";"))
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)
    assert up[0] < up[-1]


def test_profile_of_a_tiny_example_by_hand():
    inf, nan = math.inf, math.nan
    costs = np.array(
        [
            # Ratios 1, 2, tie 1, unsolved by all, 1.
            [10.0, 40.0, 7.0, inf, 3.0],
            # 3, 1, tie 1, unsolved by all, unsolved.
            [30.0, 20.0, 7.0, inf, inf],
            # Not for the first two; 3, unsolved, 5.
            [nan, nan, 21.0, inf, 15.0],
            [nan, nan, nan, nan, nan],
        ]
    )
    found = scores.profile(costs, [1, 2, 3, 4.9, 1e9])
    due = np.array(
        [
            [3 / 5, 4 / 5, 4 / 5, 4 / 5, 4 / 5],
            [2 / 5, 2 / 5, 3 / 5, 3 / 5, 3 / 5],
            [0, 0, 1 / 3, 1 / 3, 2 / 3],
            [nan] * 5,
        ]
    )
    np.testing.assert_allclose(found, due, atol=1e-15)


def test_median_interval_by_order():
    ten = scores.median_interval([5, 3, 9, 1, 7, 2, 8, 6, 4, math.inf])
    assert ten == (5.5, 2, 9)
    assert scores.median_interval([math.inf] * 10) == (math.inf,) * 3
    assert scores.median_interval([4.0] * 4 + [math.inf] * 6).low == 4
    assert scores.median_interval([2.0, 1.0]) == (1.5, 1, 2)
    # It covers as often as it says: exactly, and here in 4000 draws.
    draws = np.random.default_rng(0).normal(size=(4000, 10))
    held = [i.low <= 0 <= i.high for i in map(scores.median_interval, draws)]
    assert np.mean(held) == pytest.approx(1 - 2 * 11 / 1024, abs=0.01)


def test_reached_stays_below_to_the_end():
    work = np.array([0, 2, 4, 6])
    nan = math.nan
    curves = np.array(
        [
            [1, 0.4, 0.1, 0.05],
            [1, 0.05, 0.4, 0.1],  # passes, and comes back
            [1, 0.1, 0.1, 0.2],  # is above at the end
            [2, 0.3, 0.2, 0.2],
            [1, 0.1, nan, nan],
        ]
    )
    found = pairs.reached(curves, work, 0.1)
    np.testing.assert_array_equal(found, [4, 6, math.inf, 4, math.inf])


def test_smoothing_is_a_trailing_geometric_mean():
    curve = np.array([[8.0, 2.0, 4.0, 0.5, 32.0], [1.0, 1.0, math.inf, 1.0, 1.0]])
    found = pairs.smooth(curve, 3)
    due = [8.0, 4.0, 4.0, 4.0 ** (1 / 3), 4.0]
    np.testing.assert_allclose(found[0], due)
    assert not np.isfinite(found[1, 2:]).any()
    np.testing.assert_allclose(pairs.smooth(curve[:, :2], 3)[0], [8.0, 4.0])


def test_tuning_counts_failures_and_breaks_ties():
    curve = np.ones((3, 2, 2))
    inf = math.inf
    fails_once = np.array([[10, inf], [70, 80], [70, 80]])
    assert pairs.tune(fails_once, curve, 100) == 1
    nothing = np.full((3, 2), inf)
    curve[2, :, 1] = 0.5
    assert pairs.tune(nothing, curve, 100) == 2
    curve[2, :, 1] = math.nan
    assert pairs.tune(nothing, curve, 100) == 0


@pytest.mark.parametrize(
    ("track", "game", "method", "words"),
    [
        ("deterministic", "matching_pennies", "halpern", "projected geometry"),
        ("deterministic", "bilinear", "regret_matching", "probability simplex"),
        ("deterministic", "bilinear", "interior_point", "inequality constraints"),
        ("deterministic", "bilinear", "follow_the_ridge", "needs curvature"),
        ("deterministic", "quadratic", "follow_the_ridge", None),
        ("deterministic", "cournot", "negative_momentum", "players"),
        ("deterministic", "tandem", "local_symplectic_surgery", "invertible"),
        ("deterministic", "bilinear", "svre", "finite sums"),
        ("stochastic", "scaled_bilinear", "svre", None),
        ("stochastic", "bilinear", "svre", "finite sums"),
    ],
)
def test_methods_that_are_not_for_a_game(track, game, method, words):
    reason = pairs.inapplicable(pairs.Pair(track, game, method))
    assert reason is None if words is None else words in reason


def test_outcomes_by_certificate():
    """Where a run stands is named by the certificate of that point."""
    still = pairs.play(pairs.Pair("deterministic", "ridge_2", "simultaneous"), SMALL)
    assert still["outcomes"] == ["not Nash"] * 2
    assert still["costs"] == [None] * 2
    solved = pairs.play(pairs.Pair("deterministic", "quadratic", "optimistic"), SMALL)
    assert solved["outcomes"] == ["solved"] * 2
    found = games.entry("deterministic", "ridge_2")
    assert pairs._certified(found, np.zeros(2), "solved", {}) == "not Nash"
    found = games.entry("deterministic", "quadratic")
    assert pairs._certified(found, np.zeros(2), "slow", {}) == "other Nash"
    assert pairs._certified(found, np.ones(2), "slow", {}) == "slow"


def test_outcomes_of_curves():
    steps = np.arange(400)
    turning = np.cos(0.1 * steps)

    def named(curve, position=turning, noisy=False):
        return pairs._outcome(curve, curve, position, solved=False, noisy=noisy)

    assert named(0.9 + 0.1 * turning) == "cycled"
    assert named(np.exp(-steps / 100)) == "slow"
    assert named(np.exp(steps / 100)) == "diverged"
    assert named(np.where(steps < 300, 1.0, np.nan)) == "diverged"
    settled = np.exp(-steps / 10)
    assert named(0.5 + 0.5 * settled, settled) == "stalled"
    assert named(0.3 + 0.7 * settled, noisy=True) == "noise"
    assert named(0.9 + 0.1 * turning, noisy=True) == "cycled"


def test_every_game_and_method_is_planned():
    plan = pairs.plan(("deterministic", "stochastic"), (), ())
    assert len(plan) == len(set(plan))
    assert {pair.method for pair in plan} == set(methods.names())
    assert len(methods.names()) >= 40
    assert len(games.DETERMINISTIC) >= 25
    for track, entries in games.TRACKS.items():
        assert len({found.name for found in entries}) == len(entries)
        for found in entries:
            assert games.entry(track, found.name) is found
            assert found.group in games.GROUPS
            assert found.measure in games.MEASURES


def test_mistakes_are_named(tmp_path):
    for change, words in (
        ({"tracks": ("determinate",)}, "tracks are"),
        ({"games": ("bilinar",)}, "games of the board"),
        ({"methods": ("extragradint",)}, "did you mean extragradient"),
        ({"processes": 0}, "processes must be positive"),
        ({"tolerance": 1.0}, "tolerance must be between"),
        ({"report_seeds": ()}, "at least one seed"),
        ({"report_seeds": (0, 100)}, "tuned and reported both"),
    ):
        config = dataclasses.replace(leaderboard.SMOKE, out=tmp_path / "x", **change)
        with pytest.raises(ValueError, match=words):
            leaderboard.main(config)
    assert not (tmp_path / "x").exists()


def test_a_process_that_dies_is_reported(tmp_path):
    pair = pairs.Pair("deterministic", "no_such_game", "simultaneous")
    files.write_settings(tmp_path, SMALL)
    with pytest.raises(RuntimeError, match="no_such_game"):
        leaderboard.compute(tmp_path, [pair], 1)


def test_times_survive_a_cut_line(tmp_path):
    (tmp_path / "seconds.jsonl").write_text(
        json.dumps(["t", "g", "m", 1.5]) + "\n" + '["t", "g", "n", 0.\n'
    )
    assert leaderboard._seconds(tmp_path) == 1.5

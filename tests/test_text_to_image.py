"""Text to image: scenes that can be read off, captions, and encoders by contrast."""

import functools
import itertools
import json
import math
import re
import shutil

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import gamedyn as gd
from experiments import text_to_image
from experiments.text_to_image import (
    captions,
    decoder,
    encoders,
    parser,
    prior,
    scenes,
    training,
)
from experiments.text_to_image.scenes import Group, Scene
from gamedyn import cli, diffusion, divergences, nets, recipes
from gamedyn.data import readers, sets

ONE, TWO = scenes.one_group(), scenes.two_groups()
RED = Group(2, "red", "square")
BLUE = Group(1, "blue", "cross")
NOTHING = Group(0, None, None)
KEY = jax.random.key(0)


# Scenes and their pictures.


def test_all_scenes_are_listed_once():
    kinds = len(scenes.COLOURS) * len(scenes.SHAPES)
    assert len(set(ONE)) == len(ONE) == 3 * kinds * 4 == 240
    assert len(set(TWO)) == len(TWO) == 3 * kinds * 3 * (kinds - 1) * 4 == 13_680
    # From either side the same picture is told.
    assert len({scene.canonical for scene in TWO}) == len(TWO) // 2
    for scene in ONE + TWO:
        scenes.check(scene)


def test_training_sees_every_value_but_not_the_combinations():
    seen = [scene for scene in ONE + TWO if not scenes.is_held_out(scene)]
    groups = {group for scene in seen for group in scene.groups}
    for place, known in enumerate((scenes.COUNTS, scenes.COLOURS, scenes.SHAPES)):
        assert {group[place] for group in groups} == set(known)
    assert not {group.kind for group in groups} & scenes.HELD_OUT
    every = set(itertools.product(scenes.COLOURS, scenes.SHAPES))
    assert {group.kind for group in groups} == every - scenes.HELD_OUT
    # Each colour and each shape loses at most one of its partners.
    for values in zip(*scenes.HELD_OUT, strict=True):
        assert len(set(values)) == len(values)


def test_drawn_scenes():
    drawn, pictures = scenes.draw(300, 3)
    again, same = scenes.draw(300, 3)
    assert drawn == again
    np.testing.assert_array_equal(pictures, same)
    assert pictures.shape == (300, 16, 16, 3)
    assert set(np.unique(pictures)) == {0, 255}
    assert not any(map(scenes.is_held_out, drawn))
    alone = sum(scene.second is None for scene in drawn)
    assert abs(alone - 75) < 4 * math.sqrt(300 * 3 / 16)
    other, _ = scenes.draw(50, 3, held_out=True, single=1)
    assert all(map(scenes.is_held_out, other))
    assert all(scene.second is None for scene in other)
    scaled = np.asarray(sets.scale(pictures))
    assert [parser.parse(p) for p in scaled] == [scene.canonical for scene in drawn]


def test_pictures_hold_the_objects_of_their_colour_and_nothing_else():
    scene = Scene(RED, "bottom", Group(3, "yellow", "triangle"))
    picture = scenes.render(scene, 5)
    assert picture.dtype == np.float32
    on = picture > 0
    assert set(np.unique(picture)) == {-1, 1}
    assert on[9:].sum((0, 1)).tolist() == [32, 0, 0]
    assert on[:7].sum((0, 1)).tolist() == [30, 30, 0]
    assert not on[7:9].any()
    np.testing.assert_array_equal(picture, scenes.render(scene, 5))
    assert any((picture != scenes.render(scene, seed)).any() for seed in range(6, 9))


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (Scene(Group(4, "red", "square"), "top"), r"a count among \(1, 2, 3\), got 4"),
        (Scene(Group(1, "pink", "square"), "top"), "a colour among .*, got 'pink'"),
        (Scene(Group(1, "red", "star"), "top"), "a shape among .*, got 'star'"),
        (Scene(RED, "middle"), "a side among .*, got 'middle'"),
        (Scene(RED, "top", NOTHING), "a count among .*, got 0"),
        (Scene(RED, "top", RED), "differ in colour or shape"),
    ],
)
def test_unknown_scenes(scene, message):
    with pytest.raises(ValueError, match=message):
        scenes.render(scene, 0)
    with pytest.raises(ValueError, match=message):
        captions.caption(scene)


# Reading pictures.


def test_every_scene_is_read_exactly():
    for scene, seed in itertools.product(ONE, range(3)):
        assert parser.parse(scenes.render(scene, seed)) == scene
    rng = np.random.default_rng(0)
    for scene in TWO:
        if scene == scene.canonical:
            assert parser.parse(scenes.render(scene, rng)) == scene


@pytest.mark.slow
def test_every_scene_is_read_exactly_wherever_its_objects_are():
    for scene, seed in itertools.product(ONE, range(50)):
        assert parser.parse(scenes.render(scene, seed)) == scene
    rng = np.random.default_rng(1)
    for scene in TWO * 2:
        assert parser.parse(scenes.render(scene, rng)) == scene.canonical


def test_noise_specks_and_missing_pixels_do_no_harm():
    rng = np.random.default_rng(2)
    for scene in TWO[::41]:
        picture = scenes.render(scene, rng)
        noisy = picture + rng.uniform(-0.99, 0.99, picture.shape)
        assert parser.parse(noisy) == scene.canonical
        assert parser.parse(1e30 * picture) == scene.canonical
        # A speck where nothing is near, and a pixel less somewhere.
        on = (picture > 0).any(-1)
        padded = np.pad(on, 1)
        near = sum(padded[i : i + 16, j : j + 16] for i, j in np.ndindex(3, 3)) > 0
        free, taken = np.argwhere(~near), np.argwhere(on)
        picture[tuple(rng.choice(free))] = 1
        picture[tuple(rng.choice(taken))] = -1
        found = parser.parse(picture)
        assert [g.colour for g in found.groups] == [
            g.colour for g in scene.canonical.groups
        ]
        assert (found.side, found.first.count) == (
            scene.canonical.side,
            scene.canonical.first.count,
        )


def test_shapes_with_a_wrong_pixel_are_still_recognised():
    for name, template in scenes.SHAPES.items():
        for other, another in scenes.SHAPES.items():
            assert name == other or (template != another).sum() >= 4
        for pixel in np.ndindex(4, 4):
            changed = template.copy()
            changed[pixel] ^= True
            picture = np.full((16, 16, 3), -1.0)
            picture[1:5, 6:10][changed] = scenes.COLOURS["green"]
            if name == "cross" and not changed[0, 0]:
                continue
            assert parser.parse(picture).first[1:] == ("green", name)


def test_what_is_no_scene_has_attributes_of_none():
    black = np.full((16, 16, 3), -1.0)
    assert parser.parse(black) == Scene(NOTHING, None)
    magenta = black.copy()
    magenta[1:5, 6:10] = (1, -1, 1)
    assert parser.parse(magenta) == Scene(Group(1, None, "square"), "top")
    bar = black.copy()
    bar[6, 1:9] = (1, -1, -1)
    assert parser.parse(bar).first == Group(1, "red", None)
    assert parser.parse(-black).first == Group(1, "white", None)
    many = black.copy()
    for row, column in itertools.product((0, 6, 12), (0, 6, 12)):
        many[row : row + 4, column : column + 4] = (-1, -1, 1)
    found = parser.parse(many)
    assert sum(group.count for group in found.groups) == 9
    assert {group.kind for group in found.groups} == {("blue", "square")}


@hypothesis.given(
    arrays.arrays(
        np.float32,
        (16, 16, 3),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
        fill=st.sampled_from([-1.0, 0.0, 1.0]),
    ),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
)
def test_any_finite_picture_can_be_read(picture, seed, share):
    rng = np.random.default_rng(seed)
    mixed = np.where(rng.random((16, 16, 1)) < share, picture, -1)
    for each in (picture, mixed, rng.normal(size=picture.shape) + 2 * share - 1):
        found = parser.parse(each)
        for group in found.groups:
            assert (group.count == 0) == (found.side is None)
            assert group.colour in (None, *scenes.COLOURS)
            assert group.shape in (None, *scenes.SHAPES)
        marks = parser.compare(ONE[seed % 240], found)
        assert [len(marks[name]) for name in parser.ATTRIBUTES] == [1, 1, 1, 1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_unreadable_pictures(value):
    with pytest.raises(ValueError, match=r"shape \(16, 16, 3\), got \(16, 16\)"):
        parser.parse(np.zeros((16, 16)))
    picture = np.zeros((16, 16, 3))
    picture[3, 4, 1] = value
    with pytest.raises(ValueError, match="finite"):
        parser.parse(picture)


# Scores.


def right(wanted, found):
    marks = parser.compare(wanted, found)
    return {name: sum(marks[name]) for name in parser.ATTRIBUTES}


def test_compare():
    wanted = Scene(RED, "top", BLUE)
    whole = {"count": 2, "colour": 2, "shape": 2, "place": 1}
    assert right(wanted, wanted) == whole
    assert right(wanted, Scene(BLUE, "bottom", RED)) == whole
    assert right(wanted, Scene(BLUE, "top", RED)) == whole | {"place": 0}
    assert right(wanted, Scene(RED, "left", BLUE)) == whole | {"place": 0}
    missing = {"count": 1, "colour": 1, "shape": 1, "place": 0}
    assert right(wanted, Scene(BLUE, "bottom")) == missing
    assert right(wanted, Scene(NOTHING, None)) == dict.fromkeys(whole, 0)
    assert right(Scene(BLUE, "bottom"), wanted) == missing
    assert right(Scene(BLUE, "top"), Scene(BLUE, "top")) == missing | {"place": 1}
    unknown = Scene(Group(2, None, None), "top", BLUE)
    assert right(wanted, unknown) == {"count": 2, "colour": 1, "shape": 1, "place": 1}
    for scene in TWO[::97]:
        assert right(scene, scene.canonical) == whole


def test_score():
    wanted = [Scene(RED, "top", BLUE), Scene(RED, "left")]
    found = [Scene(BLUE, "top", RED), Scene(RED, "left")]
    expected = {"count": 1, "colour": 1, "shape": 1, "place": 0.5}
    expected |= {"attributes": 10 / 11, "scenes": 0.5}
    assert parser.score(wanted, found) == pytest.approx(expected)
    with pytest.raises(ValueError, match="at least one scene"):
        parser.score([], [])
    with pytest.raises(ValueError, match="shorter"):
        parser.score(wanted, found[:1])


def test_chance():
    """Against all scenes of one group, in closed form; drawn ones come near it."""
    pairs = list(itertools.product(ONE[::7], ONE))
    shares = parser.score(*map(list, zip(*pairs, strict=True)))
    exact = {"count": 1 / 3, "colour": 1 / 5, "shape": 1 / 4, "place": 1 / 4}
    exact["attributes"] = sum(exact.values()) / 4
    assert shares == pytest.approx(exact | {"scenes": 1 / 240})
    drawn = parser.chance(ONE * 10, ONE)
    assert drawn["attributes"] == pytest.approx(exact["attributes"], abs=0.02)
    training_scenes = [scene for scene in TWO if not scenes.is_held_out(scene)]
    held_out = [scene for scene in TWO[::5] if scenes.is_held_out(scene)]
    lowest = parser.chance(held_out, training_scenes)
    assert lowest["scenes"] == 0
    assert 0.25 < lowest["attributes"] < 0.4


# Captions.


def test_captions_and_scenes_are_inverse():
    texts = [captions.caption(scene) for scene in ONE + TWO]
    assert len(set(texts)) == len(texts)
    assert [captions.scene(text) for text in texts] == ONE + TWO
    rows = captions.tokens(texts)
    assert rows.shape == (len(texts), captions.LENGTH)
    assert rows.dtype == np.int32
    assert [captions.text(row) for row in rows] == texts
    assert set(np.unique(rows)) == set(range(len(captions.VOCABULARY)))
    assert len(set(captions.VOCABULARY)) == len(captions.VOCABULARY)


def test_spaces_capitals_and_articles_do_not_matter():
    text = "  Two RED squares\tabove a blue cross "
    assert captions.scene(text) == Scene(RED, "top", BLUE)
    np.testing.assert_array_equal(
        captions.tokens(text), captions.tokens("two red squares above one blue cross")
    )


@pytest.mark.parametrize("function", [captions.scene, captions.tokens])
def test_unknown_words(function):
    with pytest.raises(ValueError, match="word 'sqare' in .*; nearest: square"):
        function("one red sqare at the top")
    with pytest.raises(ValueError, match="unknown word 'zebra' in .*; known: one, two"):
        function("one zebra at the top")
    with pytest.raises(ValueError, match="unknown word '<padding>'"):
        function("one red square <padding>")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "red",
        "one red square",
        "one red squares at the top",
        "two red square at the top",
        "red one square at the top",
        "one red square at the left",
        "one red square above the top",
        "one red square above one blue",
        "one red square above one blue square at the top",
        "one red square one blue square",
        "one red square above two red squares",
    ],
)
def test_words_that_are_no_caption(text):
    with pytest.raises(ValueError, match="caption such as|differ in colour"):
        captions.scene(text)


def test_number_of_words():
    for text, number in (("", 0), ("red " * 9, 9)):
        with pytest.raises(ValueError, match=f"1 to 8 words, got {number}"):
            captions.tokens(["one red cross on the left", text])


# Encoders.


def test_retrieval():
    same = jnp.eye(4)
    assert list(map(float, encoders.retrieval(same, same))) == [1, 1]
    swapped = same[jnp.array([1, 0, 2, 3])]
    assert list(map(float, encoders.retrieval(same, swapped))) == [0.5, 0.5]
    # One picture for all captions is right once; no caption is nearest to the others.
    alike = jnp.stack([same[0], -same[0], -same[0], -same[0]])
    texts, pictures = encoders.retrieval(same, alike)
    assert (float(texts), float(pictures)) == (0.25, 0.5)


@functools.cache
def small():
    both = encoders.encoders(width=16, depth=1, embedding=32)
    return both, jax.jit(both.init)(KEY)


embed_texts = jax.jit(encoders.encode_texts, static_argnums=0)
embed_pictures = jax.jit(encoders.encode_pictures, static_argnums=0)


def batch(number=8):
    tokens, pictures = training.examples(number, 0)
    return encoders.Pairs(jnp.asarray(tokens), sets.scale(pictures))


def test_embeddings_are_unit_vectors_of_each_example_alone():
    both, params = small()
    pairs = batch()
    order = jnp.array([3, 1, 0, 2, 7, 6, 5, 4])
    for encode, x in (
        (lambda x: embed_texts(both, params, x).vector, pairs.tokens),
        (lambda x: embed_pictures(both, params, x), pairs.pictures),
    ):
        y = encode(x)
        assert y.shape == (8, 32)
        assert y.dtype == jnp.float32
        np.testing.assert_allclose(jnp.linalg.norm(y, axis=1), 1, rtol=1e-5)
        assert jnp.std(y, axis=0).max() > 0.01
        np.testing.assert_allclose(encode(x[order]), y[order], atol=1e-5)


def test_the_order_of_words_matters():
    both, params = small()
    rows = captions.tokens(
        ["two red squares above one blue cross", "one blue cross above two red squares"]
    )
    y = embed_texts(both, params, rows).vector
    assert jnp.abs(y[0] - y[1]).max() > 1e-3


def test_networks_reject_what_does_not_fit():
    both, params = small()
    with pytest.raises(ValueError, match=r"shape \(B, 8\), got \(2, 7\)"):
        both.text.apply(params["text"], jnp.ones((2, 7), jnp.int32))
    with pytest.raises(ValueError, match=r"\(B, 16, 16, 3\), got \(2, 16, 16, 1\)"):
        both.picture.apply(params["picture"], jnp.ones((2, 16, 16, 1), jnp.float32))


def test_the_game_is_the_loss_of_both_embeddings():
    both, params = small()
    game = encoders.game(both)
    assert game.num_players == 1
    pairs = batch()
    value = jax.jit(lambda p: game((p,), pairs)[0])
    texts = embed_texts(both, params, pairs.tokens).vector
    pictures = embed_pictures(both, params, pairs.pictures)
    expected = divergences.info_nce(texts, pictures, jnp.exp(params["log_scale"]))
    loss = value(params)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    # Beyond 100 the scale is cut off.
    hot = [
        params | {"log_scale": jnp.asarray(math.log(s), jnp.float32)}
        for s in (100, 1000)
    ]
    np.testing.assert_allclose(value(hot[0]), value(hot[1]), rtol=1e-5)


def retrieved(both, params, number, **options):
    """Retrieve among scenes of two groups no two of which are the same."""
    drawn, pictures = scenes.draw(2 * number, 9, single=0, **options)
    first = {scene.canonical: row for row, scene in reversed(list(enumerate(drawn)))}
    rows = sorted(first.values())[:number]
    tokens = captions.tokens([captions.caption(drawn[row]) for row in rows])
    said = training.embed(both, params, (tokens, pictures[rows]))
    found = encoders.retrieval(jnp.asarray(said.texts), jnp.asarray(said.pictures))
    return min(map(float, found))


def test_training_finds_pictures_by_their_captions():
    both, start = small()
    assert retrieved(both, start, 64) < 0.1
    stage = training.Stage(steps=30, batch_size=32, learning_rate=5e-3)
    with jax.numpy_dtype_promotion("standard"):
        state = training.fit_encoders(
            both,
            training.examples(2000, 0),
            stage,
            jax.random.key(1),
            log_every=10,
            steps_per_call=1,
        )
    assert state.status == gd.Status.OK
    losses = [row["loss_0"] for row in state.history]
    assert losses[-1] < 0.9 * losses[0]
    unmoved = jax.tree.map(jnp.array_equal, start, state.params[0])
    assert not any(jax.tree.leaves(unmoved)), unmoved
    assert retrieved(both, state.params[0], 64) > 0.1  # 1/64 by chance


# The prior.

prior_sample = jax.jit(prior.sample, static_argnums=0, static_argnames="draws")


def test_prior_predicts_zero_at_first_and_takes_the_game():
    net = prior.prior(embedding=8, width=16, depth=1)
    params = jax.jit(net.init)(KEY)
    unit = encoders.unit(jax.random.normal(KEY, (2, 6, 8), jnp.float32))
    times = jnp.arange(6, dtype=jnp.float32)
    first = jax.jit(net.apply)(params, unit[0], times, unit[1])
    np.testing.assert_array_equal(first, 0)
    # Scaled so that the mean square of the data, and so the first loss, is one.
    batch = prior.batch(unit[0], unit[1], KEY)
    loss = jax.jit(lambda batch: prior.game(net)((params,), batch)[0])(batch)
    assert loss == pytest.approx(1, rel=1e-5)
    sampler = diffusion.samplers.ddim(diffusion.schedules.cosine(4))
    with pytest.raises(ValueError, match="at least one draw, got 0"):
        prior.sample(net, params, unit[0], KEY, sampler, draws=0)


def test_prior_keeps_the_nearest_draw():
    net = nets.from_function(lambda key: jnp.ones(()), lambda scale, x, t, c: scale * x)
    texts = encoders.unit(jax.random.normal(KEY, (5, 4)))
    sampler = diffusion.samplers.ddim(diffusion.schedules.cosine(4))
    args = jnp.ones(()), jax.random.key(1), sampler
    several = jnp.repeat(texts, 3, axis=0)
    each = prior_sample(net, args[0], several, *args[1:], draws=1).reshape(5, 3, 4)
    best = prior_sample(net, args[0], texts, *args[1:], draws=3)
    for text, drawn, kept in zip(texts, each, best, strict=True):
        np.testing.assert_allclose(kept, drawn[np.argmax(drawn @ text)], rtol=1e-12)


def test_prior_learns_both_pictures_of_a_caption():
    """Three captions, each with two pictures at random: their law, not their mean."""
    texts = jnp.eye(4, dtype=jnp.float32)[:3]
    pictures = jnp.stack(
        [texts + texts[::-1] / 2, texts - 2 * jnp.eye(4, dtype=jnp.float32)[3:]]
    )
    pictures = encoders.unit(pictures.reshape(6, 4)).reshape(2, 3, 4)

    def draw(key):
        of_text, of_picture, rest = jax.random.split(key, 3)
        which = jax.random.randint(of_text, (128,), 0, 3)
        kind = jax.random.randint(of_picture, (128,), 0, 2)
        return prior.batch(texts[which], pictures[kind, which], rest)

    net = prior.prior(embedding=4, width=48, depth=2)
    stage = training.Stage(steps=600, batch_size=128, learning_rate=5e-3)
    chain = diffusion.schedules.cosine(100)
    with jax.numpy_dtype_promotion("standard"):
        solution = jax.jit(
            lambda params: gd.solve(
                prior.game(net, chain),
                training.rule_of(stage),
                (params,),
                stage.steps,
                key=jax.random.key(2),
                sample=draw,
            )
        )(net.init(KEY))
    sampler = diffusion.samplers.ddpm(diffusion.schedules.respace(chain, 50))
    several = jnp.repeat(texts, 100, axis=0)

    drawn = prior_sample(net, solution.params[0], several, KEY, sampler, draws=1)
    apart = drawn[None] - jnp.repeat(pictures, 100, axis=1)
    near = np.asarray(jnp.linalg.norm(apart, axis=-1)).reshape(2, 3, 100) < 0.3
    assert near.any(axis=0).mean() > 0.9
    assert (np.abs(near.mean(axis=2) - 0.5) < 0.2).all()


@pytest.mark.slow
def test_longer_training_finds_nearly_all():
    both = encoders.encoders()
    stage = training.Stage(steps=320, batch_size=256, learning_rate=2e-3)
    with jax.numpy_dtype_promotion("standard"):
        state = training.fit_encoders(
            both, training.examples(20_000, 0), stage, jax.random.key(1)
        )
    assert state.status == gd.Status.OK
    assert retrieved(both, state.params[0], 500) > 0.9
    assert retrieved(both, state.params[0], 500, held_out=True) > 0.6


# The decoder.


@functools.cache
def small_decoder():
    net = decoder.decoder(width=8, depth=1, heads=2, patch=8, embedding=6, states=5)
    shapes = jax.eval_shape(net.init, KEY)
    rng = np.random.default_rng(0)
    draw = functools.partial(jax.tree.map, lambda s: 0.3 * rng.normal(size=s.shape))
    return net, draw(shapes)


def told(number=4):
    rng = np.random.default_rng(1)
    embedding = encoders.unit(jnp.asarray(rng.normal(size=(number, 6))))
    return decoder.Condition(embedding, jnp.asarray(rng.normal(size=(number, 3, 5))))


def test_the_decoder_hears_embedding_and_words():
    net, params = small_decoder()
    rng = np.random.default_rng(2)
    x, t = jnp.asarray(rng.normal(size=(4, 16, 16, 3))), jnp.arange(4.0)
    apply, condition = jax.jit(net.apply), told()
    y = apply(params, x, t, condition)
    assert y.shape == x.shape
    for change in (
        condition._replace(embedding=0 * condition.embedding),
        condition._replace(states=0 * condition.states),
    ):
        other = apply(params, x, t, change)
        assert jnp.abs(y - other).max(axis=(1, 2, 3)).min() > 1e-3
    # Tokens are a set but for what they hold.
    turned = condition._replace(states=condition.states[:, ::-1])
    np.testing.assert_allclose(apply(params, x, t, turned), y, rtol=1e-9)


def test_conditions_are_put_out_by_themselves():
    number = 4000
    condition = decoder.Condition(jnp.ones((number, 2)), jnp.ones((number, 3, 4)))
    made = decoder.batch(jnp.zeros((number, 16, 16, 3)), condition, KEY)
    embedding, states = (np.asarray(leaf) for leaf in made.condition)
    silent = (embedding == 0).all(axis=1), (states == 0).all(axis=(1, 2))
    assert ((embedding == 1).all(axis=1) | silent[0]).all()
    assert ((states == 1).all(axis=(1, 2)) | silent[1]).all()
    for share, expected in (
        (silent[0], 0.1),
        (silent[1], 0.5),
        (silent[0] & silent[1], 0.05),
    ):
        deviation = math.sqrt(expected * (1 - expected) / number)
        assert abs(share.mean() - expected) < 4 * deviation


def test_guidance_of_the_decoder_compiles_once():
    net, params = small_decoder()
    traces = []

    def apply(*args):
        traces.append(None)
        return net.apply(*args)

    counted = nets.from_function(net.init, apply)
    draw = jax.jit(decoder.sample, static_argnums=0)
    chain = diffusion.schedules.cosine(50)
    sampler = diffusion.samplers.ddim(diffusion.schedules.respace(chain, 3))
    plain, more = (draw(counted, params, told(), KEY, sampler, w) for w in (0.0, 3.0))
    assert len(traces) == 1
    assert jnp.abs(more - plain).max() > 1e-3
    assert jnp.abs(more).max() <= 1
    # Without guidance: the sampler run on the conditional model.
    expected = jax.jit(
        lambda params: (
            diffusion.sample(
                KEY,
                lambda x, t: net.apply(params, x, t, told()),
                sampler,
                (4, 16, 16, 3),
                prediction=decoder.PREDICTION,
                clip=(-1.0, 1.0),
                dtype=jnp.float64,
            ).x
        )
    )(params)
    np.testing.assert_allclose(plain, expected, atol=1e-9)


# The recipe.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run by command, as users start it."""
    path = tmp_path_factory.mktemp("text_to_image") / "run"
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr("gamedyn.runtime.configure", lambda **options: None)
        code = cli.main(["train", "text_to_image", "--smoke", "--out", str(path)])
    assert code == 0
    return path


def test_a_short_run(run):
    summary = json.loads((run / "summary.json").read_text())
    scores = json.loads((run / "scores.json").read_text())
    for kind in ("held-in", "held-out"):
        assert summary[f"{kind}, renderer: attributes"] == 1
        assert 0.1 < summary[f"{kind}, chance: attributes"] < 0.5
        for source in text_to_image.SOURCES:
            for name in (source, f"{source}, words withheld"):
                assert 0 <= scores[f"{kind}, {name}"]["attributes"] <= 1
    assert scores["held-out, renderer"]["held_out_pairs"] == 1
    assert "held_out_pairs" not in scores["held-in, renderer"]
    assert all(math.isfinite(value) for value in summary.values())
    with Image.open(run / "samples.png") as shown:
        assert min(shown.size) > 300
    again = text_to_image.evaluate(recipes.read_record(run)[1])
    assert again == {name: summary[name] for name in again}


def test_sampling_a_prompt(run, capsys):
    prompt = "two red squares above one blue cross"
    command = ["sample", str(run), "--number", "3", "--seed", "5"]
    assert cli.main([*command, "--prompt", prompt]) == 0
    with np.load(run / "sample-5.npz") as stored:
        assert stored["images"].shape == (3, 16, 16, 3)
        assert stored["captions"].tolist() == 3 * [prompt]
        assert stored["read"].shape == (3,)
        first = stored["images"]
    assert readers.read_png(run / "sample-5.png").shape == (8 * 33, 8 * 33, 3)
    assert (
        cli.main([*command, "--prompt", "  Two red SQUARES above one blue cross"]) == 0
    )
    with np.load(run / "sample-5.npz") as stored:
        np.testing.assert_array_equal(stored["images"], first)
    assert cli.main(command) == 0
    with np.load(run / "sample-5.npz") as stored:
        asked = [captions.scene(text) for text in stored["captions"].tolist()]
    assert [scenes.is_held_out(scene) for scene in asked] == [False, False, True]
    capsys.readouterr()


def test_sampling_unknown_words(run, capsys):
    for prompt, message in (
        ("two red sqares", "unknown word 'sqares' in .*; nearest: squares, square"),
        ("one zebra at the top", "unknown word 'zebra' in .*; known: one, two"),
        ("", "expected a caption of 1 to 8 words, got 0"),
    ):
        assert cli.main(["sample", str(run), "--prompt", prompt]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert re.search(message, error)


@pytest.mark.slow
def test_resuming_goes_on_where_a_part_ended(run, tmp_path):
    """Encoders and prior trained, no decoder: the same parameters in the end."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "decoder")
    (copy / "summary.json").unlink()
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr("gamedyn.runtime.configure", lambda **options: None)
        assert cli.main(["train", "text_to_image", "--resume", str(copy)]) == 0
    one, other = (
        jax.tree.leaves(text_to_image.stored(recipes.read_record(path)[1]))
        for path in (run, copy)
    )
    for leaf, same in zip(one, other, strict=True):
        np.testing.assert_array_equal(leaf, same)

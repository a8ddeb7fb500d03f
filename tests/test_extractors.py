"""Extractors, the records they make, and the safe reading of foreign weights."""

import base64
import dataclasses
import importlib
import io
import json
import math
import pickle
import re
import struct
import sys
import types
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gamedyn
from gamedyn import data, metrics
from gamedyn.metrics import torch_files

inception = importlib.import_module("gamedyn.metrics.inception")


def _pictures(seed, *shape, maximum=255):
    draw = np.random.default_rng(seed).integers
    return draw(0, maximum + 1, shape).astype(np.uint8)


# Extractors


def test_quantise_rounds_and_clips():
    x = np.linspace(-1.2, 1.2, 1001)
    expected = np.clip(np.round(127.5 * x + 127.5), 0, 255)
    assert metrics.quantise(x).tolist() == expected.tolist()
    levels = np.arange(17, dtype=np.uint8)
    for dtype in (jnp.float32, jnp.float64):
        scaled = data.sets.scale(levels, 16, dtype)
        assert metrics.quantise(scaled, 16).tolist() == levels.tolist()
    with pytest.raises(TypeError, match="floating-point"):
        metrics.quantise(levels)
    with pytest.raises(ValueError, match="NaN"):
        metrics.quantise(np.array([math.nan]))
    with pytest.raises(ValueError, match="from 1 to 255"):
        metrics.quantise(x, 256)


def test_raw_pixels():
    images = _pictures(0, 5, 3, 2, 3)
    result = metrics.raw()(images, batch_size=2)
    np.testing.assert_array_equal(result.features, images.reshape(5, -1) / 255)
    assert result.features.dtype == np.float64
    assert result.probabilities is None
    assert result.source == "raw:none"


def test_random_conv_is_fixed_by_its_seed_and_hashed():
    first, again, other = (metrics.random_conv(1, seed) for seed in (0, 0, 1))
    assert first.weights == again.weights != other.weights
    assert re.fullmatch("[0-9a-f]{64}", first.weights)
    images = _pictures(0, 7, 9, 9, 1)
    whole = first(images).features
    assert whole.shape == (7, 64)
    assert whole.std(axis=0).min() > 0
    np.testing.assert_array_equal(again(images).features, whole)
    assert np.abs(other(images).features - whole).max() > 0.1
    with pytest.raises(ValueError, match="channels"):
        metrics.random_conv(0)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_features_depend_on_the_batch_size_by_rounding_only(batch_size):
    extractor = metrics.random_conv(3)
    images = _pictures(0, 7, 8, 8, 3)
    whole = extractor(images).features
    parts = extractor(images, batch_size=batch_size).features
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


def test_extractors_check_pictures():
    extractor = metrics.random_conv(3, maximum=16)
    with pytest.raises(TypeError, match="uint8"):
        extractor(np.zeros((2, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(None, None, 3\), got \(8, 8, 1\)"):
        extractor(np.zeros((2, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="up to 16, got 17"):
        extractor(np.full((2, 8, 8, 3), 17, np.uint8))
    with pytest.raises(ValueError, match="shape"):
        extractor(np.zeros((0, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="batch_size"):
        extractor(np.zeros((2, 8, 8, 3), np.uint8), batch_size=0)


def test_hash_sees_names_dtypes_shapes_and_values():
    base = {"a": np.arange(4.0), "b": np.zeros(2)}
    assert metrics.hash_arrays(dict(reversed(base.items()))) == metrics.hash_arrays(
        base
    )
    big = {"a": base["a"].astype(">f8"), "b": base["b"]}
    assert metrics.hash_arrays(big) == metrics.hash_arrays(base)
    changed = [
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"].astype(np.float32), "b": base["b"]},
        {"a": base["a"].reshape(2, 2), "b": base["b"]},
        {"a": base["a"], "b": np.array([0, 1e-300])},
    ]
    assert len({metrics.hash_arrays(each) for each in [base, *changed]}) == 5


# The classifier

SETTINGS = {"num_steps": 250}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits"), data.load("digits", split="test")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def classifier(digits, cache):
    return metrics.classifier(*digits, **SETTINGS, cache=cache)


def test_digits_classifier_is_accurate(classifier, digits):
    train, test = digits
    assert classifier.name == "digits_cnn"
    assert classifier.test_accuracy > 0.95
    result = classifier(test.images, batch_size=77)
    assert result.features.shape == (360, 128)
    accuracy = metrics.conditional_accuracy(result.probabilities, test.labels)
    assert accuracy == pytest.approx(classifier.test_accuracy, abs=1 / 360)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, rtol=1e-12)
    with pytest.raises(ValueError, match=r"expected pixels up to 16"):
        classifier(np.full((1, 8, 8, 1), 255, np.uint8))


def test_stored_classifier_is_found_again(classifier, digits, cache, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setitem(metrics.classifier.__globals__, "_train", refuse)
    monkeypatch.setenv("GAMEDYN_CACHE", str(cache))
    again = metrics.classifier(*digits, **SETTINGS)
    assert again.source == classifier.source
    assert again.test_accuracy == classifier.test_accuracy
    images = digits[1].images[:9]
    np.testing.assert_array_equal(again(images).features, classifier(images).features)
    # Another setting, or other data, is another classifier.
    with pytest.raises(AssertionError, match="trained again"):
        metrics.classifier(*digits, **SETTINGS, seed=1)
    fewer = dataclasses.replace(
        digits[0], images=digits[0].images[1:], labels=digits[0].labels[1:]
    )
    with pytest.raises(AssertionError, match="trained again"):
        metrics.classifier(fewer, digits[1], **SETTINGS)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _drop_an_array(path):
    arrays = data.readers.read_npz(path)
    arrays.pop("hidden.bias")
    np.savez(path, **arrays)


def _make_infinite(path):
    arrays = data.readers.read_npz(path)
    arrays["hidden.bias"][0] = np.inf
    np.savez(path, **arrays)


def _pickle_an_object(path):
    arrays = data.readers.read_npz(path)
    arrays["hidden.bias"] = np.array([None])
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "damage", [_truncate, _drop_an_array, _make_infinite, _pickle_an_object]
)
def test_damaged_classifier_is_reported_and_replaced(
    damage, classifier, digits, cache, tmp_path, monkeypatch
):
    (stored,) = cache.iterdir()
    path = tmp_path / stored.name
    path.write_bytes(stored.read_bytes())
    damage(path)
    weights = data.readers.read_npz(stored)
    weights.pop("test_accuracy")
    # Training is tested above; here it returns what it returned there.
    monkeypatch.setitem(metrics.classifier.__globals__, "_train", lambda *args: weights)
    with pytest.warns(UserWarning, match="cached classifier is damaged"):
        result = metrics.classifier(*digits, **SETTINGS, cache=tmp_path)
    assert result.source == classifier.source
    assert data.readers.read_npz(path).keys() == {*weights, "test_accuracy"}
    assert [each.name for each in tmp_path.iterdir()] == [stored.name]


def test_classifier_refuses_sets_that_do_not_fit(digits, tmp_path):
    train, test = digits
    with pytest.raises(ValueError, match="must not be those of the training set"):
        metrics.classifier(train, train, cache=tmp_path)
    small = dataclasses.replace(test, images=test.images[:, :7])
    with pytest.raises(ValueError, match=r"\(8, 8, 1\) up to 16, got \(7, 8, 1\)"):
        metrics.classifier(train, small, cache=tmp_path)
    more = dataclasses.replace(test, num_classes=11, classes=())
    with pytest.raises(ValueError, match="class count mismatch"):
        metrics.classifier(train, more, cache=tmp_path)


def test_stacked_digits_are_recognised(classifier, digits):
    stacks = data.sets.stacked(digits[1], 200)
    probabilities = metrics.classify_channels(stacks.images, classifier)
    result = metrics.stacked_coverage(probabilities)
    expected = np.bincount(stacks.labels, minlength=1000)
    # One digit in fifty is misread, one triple in seventeen.
    assert np.abs(result.histogram - expected).sum() / 2 < 0.15 * 200
    assert result.histogram.sum() == 200
    with pytest.raises(ValueError, match="expected a classifier, got raw"):
        metrics.classify_channels(stacks.images, metrics.raw(16))


# Records


def test_evaluation_of_digits_tells_samples_apart(classifier, digits):
    train, test = digits
    n = len(test)
    reference = classifier(test.images)
    real = metrics.floor(train.images, reference, classifier, number=n)
    noise = _pictures(0, n, 8, 8, 1, maximum=16)
    means = metrics.class_mean_pictures(train.images, train.labels, 10)[test.labels]
    random = metrics.evaluate(noise, reference, classifier)
    blurred = metrics.evaluate(
        means, reference, classifier, labels=test.labels, generator="ema"
    )
    for metric in ("frechet", "kernel_distance"):
        assert real[metric].value < 0.6 * blurred[metric].value
        assert real[metric].value < 0.2 * random[metric].value
    assert real["coverage"].value > 0.8 > 0.75 > random["coverage"].value
    assert real["recall"].value > 0.8
    assert blurred["recall"].value == 0
    assert blurred["accuracy"].value > 0.9
    assert real.keys() == random.keys() == blurred.keys() - {"accuracy"}

    record = blurred["frechet"]
    assert str(record) == f"frechet[digits_cnn] = {record.value:.4g}"
    assert record.weights == classifier.weights
    assert (record.n_generated, record.n_reference) == (n, n)
    assert (record.generator, real["frechet"].generator) == ("ema", "real")
    assert record.test_accuracy == classifier.test_accuracy
    assert json.loads(json.dumps(dataclasses.asdict(record)))["split"] == "test"
    assert str(blurred["classifier_score"]).startswith("classifier score[digits_cnn]")

    # The value is that of the bare functions, whatever the batches.
    stats = [
        metrics.feature_stats(classifier(images, batch_size=31).features)
        for images in (means, test.images)
    ]
    assert metrics.frechet(*stats) == pytest.approx(record.value, rel=1e-4)


def test_evaluation_names_what_the_protocol_was():
    extractor = metrics.raw()
    x, y = _pictures(0, 30, 2, 2, 1), _pictures(1, 24, 2, 2, 1)
    result = metrics.evaluate(y, x, extractor, subset_size=10, subsets=7, seed=3)
    expected = metrics.kid_subsets(
        generated=extractor(y).features,
        reference=extractor(x).features,
        subsets=7,
        subset_size=10,
        seed=3,
    )
    record = result["kernel_distance"]
    assert (record.value, record.deviation) == expected
    assert record.protocol == "7 subsets of 10"
    assert " +- " in str(record)
    few = metrics.evaluate(
        y[:8], x[:8], metrics.random_conv(1), num_neighbours_coverage=2
    )
    assert few["kernel_distance"].protocol == "whole sets"
    assert "singular: n <= d = 64" in few["frechet"].protocol


def test_evaluation_refuses_what_does_not_belong_together():
    x = _pictures(0, 12, 4, 4, 1)
    raw, conv = metrics.raw(), metrics.random_conv(1)
    with pytest.raises(ValueError, match="must come from raw:none, got random_conv"):
        metrics.evaluate(x, conv(x), raw)
    with pytest.raises(ValueError, match="needs a classifier"):
        metrics.evaluate(x, x, raw, labels=np.zeros(12, int))
    with pytest.raises(ValueError, match="generator must be one of"):
        metrics.evaluate(x, x, raw, generator="best")
    with pytest.raises(TypeError, match="generated must be uint8"):
        metrics.evaluate(x.astype(float), x, raw)
    with pytest.raises(ValueError, match="got 12 real pictures"):
        metrics.floor(x, x, raw, number=13)


def test_only_the_standard_network_prints_the_standard_names():
    result = metrics.evaluate(
        _pictures(0, 12, 4, 4, 1), _pictures(1, 12, 4, 4, 1), metrics.raw()
    )
    names = [record.label for record in result.values()]
    assert names[:3] == ["frechet[raw]", "kernel distance[raw]", "precision[raw]"]
    assert not any(re.search("FID|KID|IS", name) for name in names)
    unaccepted = dataclasses.replace(
        result["frechet"], extractor="inception_unaccepted"
    )
    assert unaccepted.label == "frechet[inception_unaccepted]"
    accepted = dataclasses.replace(result["frechet"], extractor="inception")
    assert accepted.label == "FID"
    precision = dataclasses.replace(result["precision"], extractor="inception")
    assert precision.label == "precision[inception]"


def test_class_means_check_their_classes():
    images = _pictures(0, 6, 2, 2, 1)
    with pytest.raises(ValueError, match=r"no picture of the classes \[1\]"):
        metrics.class_mean_pictures(images, np.zeros(6, int), 2)
    labels = np.array([0, 1, 0, 1, 0, 1])
    result = metrics.class_mean_pictures(images, labels, 2)
    np.testing.assert_allclose(result[1], images[1::2].mean(axis=0), atol=0.5)


# The Inception network


def test_resizing_is_that_of_tensorflow_1():
    x = _pictures(0, 2, 5, 8, 3).astype(np.float64)
    size = 17
    expected = np.zeros((2, size, size, 3))
    for i in range(size):
        for j in range(size):
            (a, down), (b, right) = divmod(i * 5, size), divmod(j * 8, size)
            below, across = min(a + 1, 4), min(b + 1, 7)
            down, right = down / size, right / size
            expected[:, i, j] = (1 - down) * (
                (1 - right) * x[:, a, b] + right * x[:, a, across]
            ) + down * ((1 - right) * x[:, below, b] + right * x[:, below, across])
    result = metrics.resize_bilinear(jnp.asarray(x), size)
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    smaller = metrics.resize_bilinear(jnp.asarray(x, jnp.float32), 4)
    assert smaller.dtype == jnp.float32
    # Every second column, and no average of neighbours.
    np.testing.assert_array_equal(smaller[:, 0], x[:, 0, ::2])


def test_table_of_inception_has_the_published_size():
    table = inception.table()
    sizes = {name: math.prod(shape) for name, shape in table.items()}
    convolutions = sum(n for name, n in sizes.items() if ".conv." in name)
    channels = sum(n for name, n in sizes.items() if "running_mean" in name)
    # Keras counts 21,802,784 without the classes, with three numbers per channel;
    # torchvision 23,834,568 with 1000 classes and two trained numbers per channel.
    assert convolutions + 3 * channels == 21_802_784
    assert convolutions + 2 * channels + 2049 * 1000 == 23_834_568
    assert table["fc.weight"] == (1008, 2048)
    assert table["Mixed_6c.branch7x7dbl_4.conv.weight"] == (160, 160, 7, 1)
    assert table["Mixed_7c.branch3x3_2a.conv.weight"] == (384, 384, 1, 3)


def test_average_pooling_leaves_the_border_out():
    x = np.arange(12.0).reshape(1, 3, 4, 1)
    result = inception._average_pool(jnp.asarray(x))[0, :, :, 0]
    for i in range(3):
        for j in range(4):
            near = x[0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            assert result[i, j] == pytest.approx(near.mean())


def _synthetic_weights():
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in inception.table().items():
        values = rng.standard_normal(shape)
        if len(shape) > 1:
            values *= np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(("bn.weight", "running_var")):
            values = 1 + 0.3 * np.tanh(values)
        else:
            values *= 0.1
        arrays[name] = values.astype(np.float32)
    return arrays, rng.integers(0, 256, (1, 20, 30, 3)).astype(np.uint8)


def test_inception_computes_what_torch_computes(tmp_path):
    arrays, images = _synthetic_weights()
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    extractor = metrics.inception(path)
    assert extractor.name == "inception_unaccepted"
    result = extractor(images)
    # torch 2.13 in float64, with torchvision's blocks and the pooling of the FID graph.
    expected = [0, 0.64345635, 1.31938074, 0.03962552, 1.89696694]
    np.testing.assert_allclose(
        result.features[0, [0, 500, 1000, 1500, 2047]], expected, atol=1e-5
    )
    assert result.features.mean() == pytest.approx(0.7947789028426976, rel=1e-6)
    assert result.features.std() == pytest.approx(1.0329140798276892, rel=1e-6)
    logarithms = np.log(result.probabilities[0, [0, 500, 1007]])
    expected = np.array([-0.78600183, -0.17584332, -1.82662415])
    np.testing.assert_allclose(
        logarithms - logarithms[0], expected - expected[0], atol=1e-5
    )
    # The acceptance that the standard names require.
    features = result.features
    accepted = metrics.inception(path, acceptance=(images, features + 5e-4))
    assert (accepted.name, accepted.weights) == ("inception", extractor.weights)
    with pytest.raises(ValueError, match="differ from the reference"):
        metrics.inception(path, acceptance=(images, features + 2e-3))
    with pytest.raises(ValueError, match=r"shape \(1, 2048\), got \(1, 2047\)"):
        metrics.inception(path, acceptance=(images, features[:, 1:]))


def test_inception_refuses_other_weights(tmp_path):
    shapes = inception.table()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        metrics.inception(tmp_path / "nothing.npz")

    def refusal(name, **arrays):
        path = tmp_path / name
        np.savez(path, **arrays)
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            metrics.inception(path)
        return str(caught.value)

    assert "472 arrays are missing" in refusal("a.npz", other=np.zeros(2))
    assert "1 unknown ['other']" in refusal("b.npz", other=np.zeros(2))
    assert "objects, which are pickles" in refusal("c.npz", other=np.array([None]))
    assert "SHA-256 that begins with 00000000" in refusal(
        "d-00000000.npz", other=np.zeros(2)
    )
    right = {
        name: np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()
    }
    counters = {"Conv2d_1a_3x3.bn.num_batches_tracked": np.array(3)}
    check = inception._check_arrays
    assert check(Path("x"), right | counters).keys() == shapes.keys()
    name = "Conv2d_1a_3x3.bn.running_var"
    for wrong, message in (
        (right[name][1:], "must be float32 of shape"),
        (right[name].astype(np.float64), "got float64"),
        (right[name] * np.float32("nan"), "not finite"),
        (-right[name], "must not be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            check(Path("x"), right | {name: wrong})
    with pytest.raises(ValueError, match="1 unknown"):
        check(Path("x"), right | {"Conv2d_9.bn.num_batches_tracked": np.array(3)})


# Weights from torch's files. Written by torch 2.13: the state dict of a batch norm of
# three channels, and a kernel.

TORCH_FILE = (
    "c-qBQ%WoS+7$19+jq5lmp=pznw)DZn>BI5*v9?o%6sz)OD+oqNt8!Sa*He3y&2GQlajF89BB4~`fCLC64h"
    "Z$X;94%+IUp{TIB-Bc_1s%$cGlMHrb%#v#Mq;iyz_f}GvD`lHZ*Ahp-cwt88hf4BDQ;frE3ziaCg&bHRsU"
    "n<k(4DmghLwBDUuS*$@3L_Hp;7ZILXX<u;`9x=hLLVY}BSkhX~DTm6DDAhr`^4Ig&~w$n8Tb_35hwo6%%@"
    "_BuVA_BV7>|vPTkZjBGO!6`RF$<G=imoYwtV{H1-5tP`CK1Sdq#;e(g=1Q37qVaVnS*Hpxi-w`G)&a7%>Z"
    "WmRHHx9=Nt+g?}ymeBJ3Q)zRs~H2+X(Pq@JS-{ekP+ZqL}lrVFQH93@!b9E%ahX~yve=U5_erVVHHX@O(g"
    "^x<5Lq6}|xit`c01x9g^Q(PkORvX^dPtb+#V9V&3#OmX~AiimB;x4?ysiK{_<+;7lM!g%dS0GQ>Qv{YN`|"
    ">hpy-eUr8?J`uvx$8dJ8&)LsR{*(k_oIZPiakh2t`fOQV&7l3?%~PHdF==psF9E0J=BCWa$EG_`asIM1uM"
    "QXoP3Fjs1Y839M@AAP72z4Q(p(sr<v)wKPI(ZtR<k^XPq^jD<U%zhx35qG~nQ_U7a`Lt!3%dG_Q>7BHLpd"
    "sslLk%uTZ4b!oE?iO}QtEs-C4Yk4ytlxvDG=7vm(7-Heas!?F1beK~TFv*47XEF=Cd9$a!|vMOr&%h<2YQ"
    "$u9t1n)mEw{2pHi+P^q5ZcINXWVN0(T&<qmOiU2vhanl<$5`lG@0z2E-$d|ds~|Eym=lK#&6a5DYxKltLw"
    "xcZg<AbzH8|8)^FvCJXb>w<Q*)x3_5mVb!Hk8aQ}ojY_sy21P`eDlw@i}c0ffqrtR!2OI`(&aG>m9tFg_n"
    "&*89A5uRs2Vk(F!TWXHtj&4ne4CEu)D3MGX72|CAD5vYvqR8P%HFPQWd3GZ`2yaqFSw$YK>Z5Rm!T$Tuwg"
    "!HI=76@}bKVGduDrw(*%g&SUq8BvkCa^D)@hY4p;rpJWi*=R%BOPD1<j>?DcU|7K$(-wjDdeRq!mp=(XYu"
    "%{-F*e{bnvE1XppJG7e-viG~iojA5C>D4^F$OFrfns$g6lD=uNdm<(iUWU)0jo)%SQWV#Fh7N2HJ3z+nYt"
    "7|%OUdRHMF70^3`bRIq8~E<nia9Y5uHdhV4sc7aVjv3XtC<CS{Jvh3om+7g+0b#Q"
)


def test_a_file_of_torch_is_read(tmp_path):
    path = tmp_path / "tiny.pth"
    path.write_bytes(zlib.decompress(base64.b85decode(TORCH_FILE)))
    result = torch_files.read_state_dict(path)
    assert {name: array.tolist() for name, array in result.items()} == {
        "weight": [0.5, 1.5, -2.0],
        "bias": [0.0] * 3,
        "running_mean": [0.0] * 3,
        "running_var": [1.0] * 3,
        "num_batches_tracked": 0,
        "kernel": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
    }
    dtypes = {name: array.dtype for name, array in result.items()}
    assert dtypes.pop("num_batches_tracked") == np.int64
    assert set(dtypes.values()) == {np.dtype(np.float32)}


# A stand-in for torch's writer, to write what torch would not.


@dataclasses.dataclass
class _Tensor:
    shape: tuple
    key: str = "0"
    numel: int | None = None
    offset: int = 0
    strides: tuple | None = None
    storage: str = "FloatStorage"


def _write(path, table, storages, *, order=b"little", compression=0):
    """Write a zip `.pth`; tensors are `_Tensor`, storages bytes by key."""
    with pytest.MonkeyPatch.context() as patch:
        torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
        for name in ("FloatStorage", "LongStorage", "HalfStorage"):
            setattr(torch, name, type(name, (), {"__module__": "torch"}))

        def _rebuild_tensor_v2():
            """Only named in the pickle."""

        _rebuild_tensor_v2.__module__ = "torch._utils"
        _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
        utils._rebuild_tensor_v2 = _rebuild_tensor_v2
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", utils)

        class Storage(tuple):
            """What `persistent_id` describes."""

        class Pickler(pickle.Pickler):
            def persistent_id(self, obj):
                return tuple(obj) if isinstance(obj, Storage) else None

            def reducer_override(self, obj):
                if not isinstance(obj, _Tensor):
                    return NotImplemented
                size = math.prod(obj.shape)
                strides = obj.strides or tuple(
                    math.prod(obj.shape[i + 1 :]) for i in range(len(obj.shape))
                )
                storage = Storage(
                    (
                        "storage",
                        getattr(torch, obj.storage),
                        obj.key,
                        "cpu",
                        size if obj.numel is None else obj.numel,
                    )
                )
                hooks = OrderedDict()
                arguments = (storage, obj.offset, obj.shape, strides, False, hooks)
                return _rebuild_tensor_v2, arguments

        program = io.BytesIO()
        Pickler(program, protocol=2).dump(table)
    _zip(path, program.getvalue(), storages, order=order, compression=compression)


def _zip(path, program, storages, *, order=b"little", compression=0):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", order)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)


def test_synthetic_tables_round_trip(tmp_path):
    path = tmp_path / "x.pth"
    x = np.arange(24, dtype="<f4")
    table = OrderedDict(
        a=_Tensor((2, 3, 4), numel=24),
        part=_Tensor((5,), numel=24, offset=19),
        flat=_Tensor((1, 4), numel=24, strides=(99, 1)),
        count=_Tensor((), key="1", storage="LongStorage"),
        empty=_Tensor((0, 3), key="2"),
    )
    storages = {"0": x.tobytes(), "1": struct.pack("<q", -7), "2": b""}
    _write(path, table, storages)
    result = torch_files.read_state_dict(path)
    assert list(result) == list(table)
    np.testing.assert_array_equal(result["a"], x.reshape(2, 3, 4))
    np.testing.assert_array_equal(result["part"], x[19:])
    np.testing.assert_array_equal(result["flat"], x[None, :4])
    assert result["count"] == -7
    assert result["empty"].shape == (0, 3)
    assert all(array.dtype.isnative for array in result.values())


FOUR = np.arange(4, dtype="<f4").tobytes()
WRONG_TENSORS = {
    "short storage": (_Tensor((2, 2)), FOUR[:-1], "15 bytes, expected 16"),
    "long storage": (_Tensor((2, 2)), FOUR + b"\0", "17 bytes, expected 16"),
    "shape too large": (_Tensor((2, 3), numel=4), FOUR, "exceeds its storage"),
    "offset too large": (_Tensor((2, 2), offset=1), FOUR, "exceeds its storage"),
    "negative offset": (_Tensor((2,), numel=4, offset=-1), FOUR, "other than sizes"),
    "negative shape": (_Tensor((-1, -4), numel=4), FOUR, "other than sizes"),
    "negative number": (_Tensor((2, 2), numel=-1), FOUR, "is refused"),
    "strides of zero": (_Tensor((2, 2), strides=(0, 0)), FOUR, "contiguous"),
    "transposed": (_Tensor((2, 2), strides=(1, 2)), FOUR, "contiguous"),
    "fewer strides": (_Tensor((2, 2), strides=(1,)), FOUR, "other than sizes"),
    "path as key": (_Tensor((2, 2), key="../data.pkl"), FOUR, "is refused"),
    "no such storage": (_Tensor((2, 2), key="7"), FOUR, "no item named"),
    "other dtype": (_Tensor((2, 2), storage="HalfStorage"), FOUR, "HalfStorage"),
}


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_tensors_that_do_not_fit_their_storage_are_refused(case, tmp_path):
    tensor, content, message = WRONG_TENSORS[case]
    path = tmp_path / "x.pth"
    _write(path, OrderedDict(a=tensor), {"0": content})
    with pytest.raises(ValueError, match=message):
        torch_files.read_state_dict(path)


def _calls(module, name, argument):
    """Pickle the call of any function, by hand."""
    text = argument.encode()
    size = struct.pack("<I", len(text))
    program = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X" + size + text
    return program + b"\x85R."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch", "HalfStorage"),
        ("collections", "OrderedDict.fromkeys"),
        ("gamedyn.metrics.torch_files", "os.system"),
    ],
)
def test_pickles_that_name_anything_else_are_refused(module, name, tmp_path):
    path, trace = tmp_path / "x.pth", tmp_path / "trace"
    program = _calls(module, name, f"touch {trace}")
    _zip(path, program, {})
    with pytest.raises(ValueError, match=rf"{re.escape(f'{module}.{name}')}.* refused"):
        torch_files.read_state_dict(path)
    assert not trace.exists()


def test_the_attack_works_where_it_is_not_refused(tmp_path):
    # Otherwise the test above would pass for pickles that do nothing.
    trace = tmp_path / "trace"
    pickle.loads(_calls("os", "system", f"touch {trace}"))
    assert trace.exists()


PROGRAMS = {
    "stack global": (
        b"\x80\x02X\2\0\0\0osX\6\0\0\0system\x93.",
        "STACK_GLOBAL",
    ),
    "extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "huge memo": (b"\x80\x02}r\xff\xff\xff\x7f.", "larger than"),
    "huge string": (b"\x80\x02X\xff\xff\xff\x7fab.", "no table"),
    "deep tuples": (b"\x80\x02)" + b"\x85" * 30_000 + b".", "larger than"),
    "trailing bytes": (b"\x80\x02}.}.", "2 bytes follow"),
    "no end": (b"\x80\x02}", "no table"),
    "not a dict": (b"\x80\x02K\x01.", "expected a dict"),
    "not arrays": (pickle.dumps({"a": 1}, 2), "expected a dict of named arrays"),
    "no storage": (b"\x80\x02K\x01Q.", "other than a storage"),
    "a called tag": (b"\x80\x02ctorch\nFloatStorage\n)R.", "not callable"),
    "a changed tag": (b"\x80\x02ctorch\nFloatStorage\n}X\1\0\0\0aK\1sb.", "attribute"),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_programs_that_no_table_needs_are_refused(case, tmp_path):
    program, message = PROGRAMS[case]
    path = tmp_path / "x.pth"
    _zip(path, program, {})
    with pytest.raises(ValueError, match=message):
        torch_files.read_state_dict(path)


def test_a_pickle_cannot_change_the_library(tmp_path):
    # BUILD with a pair sets attributes, here the defaults of the rebuilding function.
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\0\0\0"
    program += b"__defaults__K\1K\2\x86s\x86b}\x86."
    path = tmp_path / "x.pth"
    _zip(path, program, {})
    with pytest.raises(ValueError, match="expected a dict"):
        torch_files.read_state_dict(path)
    assert torch_files._view.__defaults__ is None
    table = OrderedDict(a=_Tensor((2, 2)))
    _write(path, table, {"0": FOUR})
    assert torch_files.read_state_dict(path)["a"].shape == (2, 2)


def test_archives_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    table, storages = OrderedDict(a=_Tensor((2, 2))), {"0": FOUR}

    def refuses(message):
        with pytest.raises(ValueError, match=message):
            torch_files.read_state_dict(path)

    _write(path, table, storages, order=b"big")
    refuses("little-endian")
    _write(path, table, storages, compression=zipfile.ZIP_DEFLATED)
    refuses("compressed")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("b/data.pkl", b"")
    refuses("one data.pkl")
    _zip(path, b"\x80\x02}" + b"0}" * 2**19 + b".", {})
    refuses("at most 1048576 expected")
    path.write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
    refuses("before zip archives; convert it")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        torch_files.read_state_dict(tmp_path / "nothing.pth")


@pytest.fixture(scope="module")
def torch_bytes():
    return zlib.decompress(base64.b85decode(TORCH_FILE))


@given(draw=st.data())
def test_damaged_files_are_errors_and_never_more(draw, torch_bytes, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzz.pth"
    content = bytearray(torch_bytes)
    kind = draw.draw(st.sampled_from(["cut", "random", "flip"]))
    if kind == "cut":
        content = content[: draw.draw(st.integers(0, len(content) - 1))]
    elif kind == "random":
        content = draw.draw(st.binary(max_size=200))
    else:
        place = draw.draw(st.integers(0, len(content) - 1))
        content[place] ^= draw.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        result = torch_files.read_state_dict(path)
    except ValueError:
        return
    # A flipped bit may hit padding, the time of writing or the like.
    assert kind == "flip"
    assert result["kernel"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@given(seed=st.integers(0, 2**32 - 1))
def test_damaged_pickles_are_errors_and_never_more(seed, torch_bytes, tmp_path_factory):
    """Behind the archive's checksums: bytes of the pickle itself are replaced."""
    path = tmp_path_factory.getbasetemp() / "fuzz_program.pth"
    rng = np.random.default_rng(seed)
    with zipfile.ZipFile(io.BytesIO(torch_bytes)) as archive:
        program = bytearray(archive.read("tiny/data.pkl"))
        storages = {str(i): archive.read(f"tiny/data/{i}") for i in range(6)}
    for _ in range(20):
        changed = bytearray(program)
        for place in rng.integers(0, len(program), rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        _zip(path, bytes(changed), storages)
        try:
            result = torch_files.read_state_dict(path)
        except ValueError:
            continue
        # What passes is a table still, of other names or shapes.
        assert all(isinstance(array, np.ndarray) for array in result.values())


def test_pickle_is_used_in_one_place_only():
    folder = Path(gamedyn.__file__).parent
    users = [
        file.relative_to(folder).as_posix()
        for file in sorted(folder.rglob("*.py"))
        if re.search(
            r"^\s*(import|from) (_?pickle|dill|marshal|shelve|joblib)|allow_pickle=T",
            file.read_text(),
            re.MULTILINE,
        )
    ]
    assert users == ["metrics/torch_files.py"]


def test_extractors_do_not_depend_on_the_flag_of_jax(classifier):
    images = _pictures(0, 4, 8, 8, 1, maximum=16)
    expected = classifier(images)
    with jax.enable_x64(False):
        result = classifier(images)
    np.testing.assert_allclose(result.features, expected.features, rtol=1e-6)
    assert result.features.dtype == np.float64

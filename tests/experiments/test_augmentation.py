import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gc_optax.experiments.data import load
from gc_optax.experiments.training.augmentation import crop_and_flip, standardize

KEY = jax.random.key(0)


def images_of(number, shape=(5, 6, 2), seed=0):
    pixels = np.random.default_rng(seed).integers(1, 256, (number, *shape), np.uint8)
    return jnp.asarray(pixels)


def choices(images, crops, padding):
    """Which window of its padded image each crop is: rows of (top, left, flipped)."""
    _, height, width, _ = images.shape
    margin = (padding, padding)
    padded = np.pad(np.asarray(images), ((0, 0), margin, margin, (0, 0)))
    found = []
    for image, crop in zip(padded, np.asarray(crops), strict=True):
        matches = []
        for top, left in itertools.product(range(2 * padding + 1), repeat=2):
            window = image[top : top + height, left : left + width]
            matches += [(top, left, 0)] * bool((window == crop).all())
            matches += [(top, left, 1)] * bool((window[:, ::-1] == crop).all())
        assert len(matches) == 1
        found += matches
    return np.array(found, np.int64)


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_each_output_is_a_window_of_its_own_padded_image(padding):
    images = images_of(40)
    found = choices(images, crop_and_flip(KEY, images, padding), padding)
    assert set(found[:, 2]) == {0, 1}


def test_offsets_and_flips_are_uniform_and_independent():
    images = jnp.broadcast_to(images_of(1, (4, 4, 1)), (3000, 4, 4, 1))
    found = choices(images, crop_and_flip(KEY, images, 1), 1)
    windows = found @ (6, 2, 1)
    assert stats.chisquare(np.bincount(windows, minlength=18)).pvalue > 0.01
    # What an image gets says nothing about what the next one in the batch gets.
    pairs = np.bincount(windows[:-1] * 18 + windows[1:], minlength=18 * 18)
    assert stats.chisquare(pairs).pvalue > 0.01


def test_the_papers_padding_reaches_every_offset():
    images = jnp.broadcast_to(images_of(1, (8, 8, 1)), (300, 8, 8, 1))
    found = choices(images, crop_and_flip(KEY, images), 4)
    assert set(found[:, 0]) == set(found[:, 1]) == set(range(9))


def test_a_key_gives_the_same_crops_again_also_when_compiled_and_another_key_others():
    images = images_of(20)
    first = crop_and_flip(KEY, images)
    np.testing.assert_array_equal(crop_and_flip(KEY, images), first)
    np.testing.assert_array_equal(jax.jit(crop_and_flip, static_argnums=2)(KEY, images, 4), first)
    assert (crop_and_flip(jax.random.key(1), images) != first).any()


def test_under_vmap_each_seed_gets_what_it_gets_alone():
    keys = jax.random.split(KEY, 3)
    images = images_of(12).reshape(3, 4, 5, 6, 2)
    alone = jax.jit(crop_and_flip)
    together = jax.jit(jax.vmap(crop_and_flip))(keys, images)
    shared = jax.jit(jax.vmap(crop_and_flip, in_axes=(0, None)))(keys, images[0])
    for seed in range(3):
        np.testing.assert_array_equal(together[seed], alone(keys[seed], images[seed]))
        np.testing.assert_array_equal(shared[seed], alone(keys[seed], images[0]))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16, jnp.int32])
@pytest.mark.parametrize("shape", [(3, 5, 7, 1), (1, 32, 32, 3)])
def test_shape_and_type_are_kept(dtype, shape):
    output = crop_and_flip(KEY, jnp.ones(shape, dtype))
    assert (output.shape, output.dtype) == (shape, dtype)


def test_standardized_training_images_have_mean_0_and_deviation_1():
    train, _, _, mean, std = load("digits")
    assert mean is not None
    assert std is not None
    output = standardize(jnp.asarray(train.inputs), jnp.asarray(mean), jnp.asarray(std))
    assert output.dtype == jnp.float32
    assert output.mean() == pytest.approx(0, abs=1e-5)
    assert output.std() == pytest.approx(1, abs=1e-5)


def test_each_channel_is_standardized_by_its_own_moments():
    images = jnp.array([[3, 20], [1, 40]], jnp.uint8).reshape(2, 1, 1, 2)
    output = standardize(images, jnp.array([1.0, 20.0]), jnp.array([1.0, 10.0]))
    assert output.ravel().tolist() == [2.0, 0.0, 0.0, 2.0]

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gc_optax.experiments._config import Config
from gc_optax.experiments._data import SOURCES, Dataset, Split, standardise
from gc_optax.experiments._optimizers import chain, links
from gc_optax.experiments._training import (
    METRICS,
    State,
    Trainer,
    batches,
    epoch_function,
    functional,
)
from gc_optax.models import MLP


@pytest.fixture(scope="module")
def dataset():
    whole = SOURCES["digits"].load()
    return Dataset(*(Split(split.images[:96], split.labels[:96]) for split in whole))


def small(**settings):
    return Config(
        **({"model": "mlp", "seeds": 3, "epochs": 2, "batch_size": 32, "arms": ("gc",)} | settings)
    )


def metrics_of(trainer, arm="gc", rate=0.05):
    """The metrics as one array (epochs, metrics, seeds)."""
    return np.array([[e.metrics[m] for m in METRICS] for e in trainer.run(arm, rate)])


@pytest.fixture(scope="module")
def trainer(dataset):
    return Trainer(small(), dataset)


def test_a_run_repeated_gives_the_same_numbers(trainer, dataset):
    first = metrics_of(trainer)
    np.testing.assert_array_equal(metrics_of(trainer), first)
    np.testing.assert_array_equal(metrics_of(Trainer(small(), dataset)), first)


def test_metrics_are_finite_and_differ_between_seeds(trainer):
    metrics = metrics_of(trainer)
    assert metrics.shape == (2, len(METRICS), 3)
    assert np.isfinite(metrics).all()
    losses = metrics[:, METRICS.index("train_loss")]
    assert len(np.unique(losses)) == losses.size


def test_a_seed_trained_alone_gives_what_it_gives_in_company(trainer, dataset):
    alone = metrics_of(Trainer(small(seed=1, seeds=1), dataset))
    np.testing.assert_allclose(alone[..., 0], metrics_of(trainer)[..., 1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_convolutional_network_trained_alone_gives_what_it_gives_in_company(dataset):
    company = metrics_of(Trainer(small(model="cnn"), dataset))
    alone = metrics_of(Trainer(small(model="cnn", seed=1, seeds=1), dataset))
    np.testing.assert_allclose(alone[..., 0], company[..., 1], rtol=1e-4, atol=1e-5)


def test_arms_start_from_the_same_weights_and_see_the_same_batches(dataset):
    # With one batch per epoch, the first training loss is that of the initial weights; the
    # batches of the later epochs are told by an arm that does not move.
    trainer = Trainer(small(batch_size=96), dataset)
    first = [metrics_of(trainer, arm)[0, METRICS.index("train_loss")] for arm in ("none", "gc")]
    np.testing.assert_array_equal(*first)
    still = [metrics_of(trainer, arm, rate=1e-30) for arm in ("none", "gc", "optax")]
    np.testing.assert_array_equal(still[0], still[1])
    np.testing.assert_array_equal(still[0], still[2])
    moved = [metrics_of(trainer, arm)[1] for arm in ("none", "gc")]
    assert (moved[0] != moved[1]).any()


def test_the_batches_of_an_epoch_hold_no_image_twice_and_change_with_epoch_and_seed():
    def rows(seed, epoch):
        return np.asarray(batches(jnp.uint32(seed), jnp.uint32(epoch), 100, 32))

    assert rows(0, 0).shape == (3, 32)
    assert len(np.unique(rows(0, 0))) == 96
    np.testing.assert_array_equal(rows(0, 0), rows(0, 0))
    assert (rows(0, 0) != rows(0, 1)).any()
    assert (rows(0, 0) != rows(1, 0)).any()


def test_an_arm_compiles_once_for_all_learning_rates(trainer, monkeypatch):
    slow = metrics_of(trainer, rate=0.01)
    monkeypatch.setattr(jax, "jit", None)
    fast = metrics_of(trainer, rate=0.1)
    assert (slow != fast).any()
    assert list(trainer.compile_seconds) == ["gc"]


def test_a_run_that_diverges_goes_on_and_gets_nothing_right(trainer):
    metrics = metrics_of(trainer, rate=1e10)
    assert len(metrics) == 2
    assert not np.isfinite(metrics[-1, METRICS.index("test_loss")]).any()
    assert (metrics[-1, METRICS.index("test_accuracy")] == 0).all()


@pytest.mark.parametrize(("arm", "preserved"), [("none", False), ("gc", True), ("optax", False)])
def test_training_with_gc_preserves_the_weight_sums_of_each_unit(arm, preserved, dataset):
    init, apply = functional(lambda rngs: MLP((8, 8, 1), 10, width=16, rngs=rngs))
    optimizer = lambda rate: chain(links(arm, "sgd", "gradient", rate, momentum=0.9))  # noqa: E731
    params = init(jax.random.key(0))
    state, _ = jax.jit(epoch_function(apply, optimizer))(
        State(params, optimizer(0.0).init(params)),
        batches(jnp.uint32(0), jnp.uint32(0), 96, 32),
        jnp.float32(0.1),
        jax.device_put(dataset),
    )
    moved = state.params["dense1"]["kernel"].sum(0) - params["dense1"]["kernel"].sum(0)
    assert (jnp.abs(moved).max() < 1e-5) == preserved


@pytest.mark.slow
@pytest.mark.usefixtures("default_promotion")
def test_placement_makes_no_difference_for_sgd_and_does_for_adam(dataset):
    def final(optimizer, placement):
        return metrics_of(Trainer(small(optimizer=optimizer, placement=placement), dataset))

    np.testing.assert_allclose(final("sgd", "gradient"), final("sgd", "update"), rtol=1e-3)
    assert not np.allclose(final("adam", "gradient"), final("adam", "update"), rtol=1e-3)


def test_digits_are_split_into_a_thousand_to_train_and_the_rest_to_test():
    train, test = SOURCES["digits"].load()
    assert train.images.shape == (1000, 8, 8, 1)
    assert test.images.shape == (797, 8, 8, 1)
    assert train.images.dtype == np.float32
    assert train.labels.dtype == np.int32
    assert set(train.labels) == set(test.labels) == set(range(SOURCES["digits"].classes))
    assert train.images.mean() == pytest.approx(0, abs=1e-5)
    assert train.images.std() == pytest.approx(1, abs=1e-5)


def test_images_are_standardised_channel_by_channel_with_the_training_sets_moments():
    train = np.array([[0.0, 10.0], [2.0, 30.0]], np.float32).reshape(2, 1, 1, 2)
    other = np.array([[3.0, 20.0]], np.float32).reshape(1, 1, 1, 2)
    assert standardise(other, train).ravel().tolist() == [2.0, 0.0]

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gc_optax.experiments.data import Dataset, Split, load
from gc_optax.experiments.errors import InvalidSettingError
from gc_optax.experiments.execution.trainer import Trainer
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.training.epoch import (
    Metrics,
    State,
    batches,
    epoch_function,
    eval_batches,
    evaluation_function,
    noise_key,
)
from gc_optax.experiments.training.network import functional
from gc_optax.experiments.training.optimizers import chain, links
from gc_optax.experiments.training.optimizers import schedule as rate_of
from gc_optax.models import MLP, VGG


@pytest.fixture(scope="module")
def dataset():
    whole = load("digits")
    train, test = (Split(s.inputs[:96], s.labels[:96]) for s in (whole.train, whole.test))
    return whole._replace(train=train, test=test)


def small(**settings):
    defaults = {
        "model": "mlp",
        "seeds": 3,
        "epochs": 2,
        "batch_size": 32,
        "arms": ("gc",),
        "devices": 1,
    }
    return Config(**(defaults | settings))


def metrics_of(trainer, arm="gc", rate=0.05):
    """The metrics of all seeds as one array (epochs, metrics, seeds)."""
    groups = [
        [list(e.metrics) for _, e in trainer.run(arm, rate, seeds)] for seeds in trainer.groups
    ]
    return np.concatenate([np.array(group) for group in groups], axis=-1)


@pytest.fixture(scope="module")
def trainer(dataset):
    return Trainer(small(), dataset)


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_kept")
def test_a_run_repeated_gives_the_same_numbers(trainer, dataset):
    first = metrics_of(trainer)
    np.testing.assert_array_equal(metrics_of(trainer), first)
    np.testing.assert_array_equal(metrics_of(Trainer(small(), dataset)), first)


@pytest.mark.slow
@pytest.mark.usefixtures("default_promotion")
def test_a_run_that_begins_in_the_middle_gives_what_the_whole_run_gives(dataset):
    trainer = Trainer(small(epochs=4, schedule="one-cycle", augmentation="crop-flip"), dataset)
    seeds = trainer.groups[0]
    whole, kept = [], None
    for state, result in trainer.run("gc", 0.05, seeds):
        whole.append(result.metrics)
        if len(whole) == 2:
            # The state that is given out is taken back for the next epoch.
            kept = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
    rest = [r.metrics for _, r in trainer.run("gc", 0.05, seeds, jax.device_put(kept), 2)]
    for a, b in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(a, b)


def test_metrics_are_finite_and_differ_between_seeds(trainer):
    metrics = metrics_of(trainer)
    assert metrics.shape == (2, len(Metrics._fields), 3)
    assert np.isfinite(metrics).all()
    losses = metrics[:, Metrics._fields.index("train_loss")]
    assert len(np.unique(losses)) == losses.size


def test_a_seed_trained_alone_gives_what_it_gives_in_company(trainer, dataset):
    alone = metrics_of(Trainer(small(seed=1, seeds=1), dataset))
    np.testing.assert_allclose(alone[..., 0], metrics_of(trainer)[..., 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at_once", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_seeds_in_groups_give_what_they_give_all_at_once(trainer, dataset, at_once):
    grouped = Trainer(small(seeds_at_once=at_once), dataset)
    assert [len(seeds) for seeds in grouped.groups] == {1: [1, 1, 1], 2: [2, 1]}[at_once]
    np.testing.assert_allclose(metrics_of(grouped), metrics_of(trainer), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("devices", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_a_batch_spread_over_devices_gives_what_one_device_gives(trainer, dataset, devices):
    spread = Trainer(small(devices=devices), dataset)
    assert len(spread.devices) == devices
    np.testing.assert_allclose(metrics_of(spread), metrics_of(trainer), rtol=1e-4, atol=1e-5)
    seeds = spread.groups[0]
    program = spread._programs["gc", 3].epoch.as_text()  # pyright: ignore
    assert "all-reduce" in program
    assert "all-gather" not in program
    assert spread.initial_state("gc", seeds).params["head"]["kernel"].sharding.is_fully_replicated


def test_by_default_a_batch_is_spread_over_as_many_devices_as_divide_it(dataset):
    assert len(Trainer(small(devices=None, batch_size=32), dataset).devices) == 8
    assert len(Trainer(small(devices=None, batch_size=30), dataset).devices) == 6


def test_devices_that_are_not_there_or_do_not_divide_a_batch_are_an_error(dataset):
    with pytest.raises(InvalidSettingError, match="at most 8, the number of local devices, got 9"):
        Trainer(small(devices=9), dataset)
    with pytest.raises(InvalidSettingError, match="must divide --batch-size 32, got 3"):
        Trainer(small(devices=3), dataset)


def test_a_network_that_does_not_fit_the_images_is_an_error(dataset):
    cut = [Split(s.inputs[:, :7], s.labels) for s in (dataset.train, dataset.test)]
    with pytest.raises(InvalidSettingError, match="vit does not fit digits: "):
        Trainer(small(model="vit"), dataset._replace(train=cut[0], test=cut[1]))


@pytest.mark.slow
def test_a_convolutional_network_trained_alone_gives_what_it_gives_in_company(dataset):
    company = metrics_of(Trainer(small(model="cnn"), dataset))
    alone = metrics_of(Trainer(small(model="cnn", seed=1, seeds=1), dataset))
    np.testing.assert_allclose(alone[..., 0], company[..., 1], rtol=1e-4, atol=1e-5)


def test_arms_start_from_the_same_weights_and_see_the_same_batches(dataset):
    # With one batch per epoch, the first training loss is that of the initial weights; the
    # batches of the later epochs are told by an arm that does not move.
    settings = {"batch_size": 96, "arms": ("none", "gc", "traced", "optax")}
    trainer = Trainer(small(**settings), dataset)
    first = [
        metrics_of(trainer, arm)[0, Metrics._fields.index("train_loss")] for arm in ("none", "gc")
    ]
    np.testing.assert_array_equal(*first)
    still = [metrics_of(trainer, arm, rate=1e-30) for arm in ("none", "gc", "optax")]
    np.testing.assert_array_equal(still[0], still[1])
    np.testing.assert_array_equal(still[0], still[2])
    moved = [metrics_of(trainer, arm)[1] for arm in ("none", "gc", "traced")]
    assert (moved[0] != moved[1]).any()
    # Names and trace agree about dense layers.
    np.testing.assert_array_equal(moved[1], moved[2])


def test_the_batches_of_an_epoch_hold_no_image_twice_and_change_with_epoch_and_seed():
    def rows(seed, epoch):
        return np.asarray(batches(jnp.uint32(seed), jnp.uint32(epoch), 100, 32))

    assert rows(0, 0).shape == (3, 32)
    assert len(np.unique(rows(0, 0))) == 96
    np.testing.assert_array_equal(rows(0, 0), rows(0, 0))
    assert (rows(0, 0) != rows(0, 1)).any()
    assert (rows(0, 0) != rows(1, 0)).any()


def test_noise_changes_with_epoch_and_seed():
    data = {
        tuple(jax.random.key_data(noise_key(jnp.uint32(s), jnp.uint32(e))).tolist())
        for s in (0, 1)
        for e in (0, 1)
    }
    assert len(data) == 4


def test_an_arm_compiles_once_for_all_learning_rates(trainer, monkeypatch):
    slow = metrics_of(trainer, rate=0.01)
    before = dict(trainer.compile_seconds)
    fast = metrics_of(trainer, rate=0.1)
    assert (slow != fast).any()
    assert trainer.compile_seconds == before
    assert list(before) == ["gc"]


def test_a_run_that_diverges_gets_nothing_right(trainer):
    metrics = metrics_of(trainer, rate=1e10)
    assert not np.isfinite(metrics[-1, Metrics._fields.index("test_loss")]).any()
    assert (metrics[-1, Metrics._fields.index("test_accuracy")] == 0).all()


def one_epoch(network, dataset, optimizer, **options):
    """The state before and after three steps of seed 0, and the batches' rows."""
    params, statistics = network.init(jax.random.key(0))
    state = State(params, statistics, optimizer(0.0).init(params))
    order = batches(jnp.uint32(0), jnp.uint32(0), 96, 32)
    after, _ = jax.jit(epoch_function(network, optimizer, **options))(
        state, order, jax.random.key(1), jnp.float32(0.1), jax.device_put(dataset)
    )
    return state, after, order


@pytest.mark.parametrize(("arm", "preserved"), [("none", False), ("gc", True), ("optax", False)])
def test_training_with_gc_preserves_the_weight_sums_of_each_unit(arm, preserved, dataset):
    network = functional(lambda rngs: MLP((8, 8, 1), 10, width=16, rngs=rngs))
    before, after, _ = one_epoch(
        network, dataset, lambda rate: chain(links(arm, "sgd", "gradient", rate, momentum=0.9))
    )
    moved = after.params["dense1"]["kernel"].sum(0) - before.params["dense1"]["kernel"].sum(0)
    assert (jnp.abs(moved).max() < 1e-5) == preserved


@pytest.mark.usefixtures("default_promotion")
@pytest.mark.parametrize(
    ("schedule", "factors"), [("step", [1, 1, 0.1, 0.1]), ("one-cycle", [0.04, 1.0, 0.5, 0.0])]
)
def test_the_learning_rate_follows_its_schedule(schedule, factors):
    steps = {"step": [0, 9, 10, 19], "one-cycle": [0, 30, 65, 99]}[schedule]
    rate = rate_of(schedule, jnp.float32(0.2), steps=100, decay_steps=10)
    assert callable(rate)
    actual = [float(jnp.asarray(rate(jnp.int32(step)))) / 0.2 for step in steps]
    assert actual == pytest.approx(factors, abs=2e-3)


def test_evaluation_in_batches_gives_what_the_whole_test_set_gives(dataset):
    network = functional(lambda rngs: MLP((8, 8, 1), 10, width=16, rngs=rngs))
    params, statistics = network.init(jax.random.key(0))
    evaluate = jax.jit(evaluation_function(network))
    state = State(params, statistics, ())
    whole = evaluate(state, eval_batches(96, 96), dataset)
    for size in (1, 7, 40, 200):
        parts = evaluate(state, eval_batches(96, size), dataset)
        np.testing.assert_allclose(parts, whole, rtol=1e-5)


def test_batches_of_the_test_set_cover_every_row_once():
    rows, weights = eval_batches(10, 4)
    assert rows.shape == weights.shape == (3, 4)
    assert rows[weights > 0].tolist() == list(range(10))
    assert weights.sum() == 10


def test_batch_statistics_change_in_training_and_not_in_evaluation(tiny_cifar100):
    data = load("cifar100", tiny_cifar100)
    network = functional(lambda rngs: VGG((32, 32, 3), 100, rngs=rngs))
    params, statistics = jax.eval_shape(network.init, jax.random.key(0))
    assert jax.tree.leaves(statistics)
    inputs = jax.ShapeDtypeStruct((2, *data.train.inputs.shape[1:]), jnp.float32)
    _, after = jax.eval_shape(network.train, params, statistics, inputs, jax.random.key(0))
    assert jax.tree.structure(after) == jax.tree.structure(statistics)
    assert jax.eval_shape(network.evaluate, params, statistics, inputs).shape == (2, 100)


@pytest.mark.slow
def test_only_training_images_are_augmented(dataset):
    # Of images that are brighter at their edge than can be after a crop, only training sees others.
    seen = []

    class Spy(MLP):
        def __call__(self, x, *, rngs=None):
            jax.debug.callback(lambda m: seen.append(float(m)), x.max())
            return super().__call__(x, rngs=rngs)

    edge = np.zeros((96, 8, 8, 1), np.uint8)
    edge[:, 0, 0] = 255
    data = Dataset(
        Split(edge, dataset.train.labels),
        Split(edge, dataset.test.labels),
        10,
        np.zeros(1, np.float32),
        np.ones(1, np.float32),
    )
    network = functional(lambda rngs: Spy((8, 8, 1), 10, width=4, rngs=rngs))
    optimizer = lambda rate: chain(links("none", "sgd", "gradient", rate, momentum=0.9))  # noqa: E731
    _, state, _ = one_epoch(network, data, optimizer, augmentation="none")
    jax.effects_barrier()
    assert set(seen) == {255.0}
    sums = jax.jit(evaluation_function(network))(state, eval_batches(96, 48), data)
    jax.block_until_ready(sums)
    jax.effects_barrier()
    assert set(seen) == {255.0}

    moved = []

    class Corner(MLP):
        def __call__(self, x, *, rngs=None):
            jax.debug.callback(lambda m: moved.append(float(m)), (x[:, 0, 0] == 255).mean())
            return super().__call__(x, rngs=rngs)

    network = functional(lambda rngs: Corner((8, 8, 1), 10, width=4, rngs=rngs))
    one_epoch(network, data, optimizer, augmentation="crop-flip")
    jax.effects_barrier()
    assert moved
    assert all(share < 0.5 for share in moved)


@pytest.mark.slow
@pytest.mark.usefixtures("default_promotion")
def test_placement_makes_no_difference_for_sgd_and_does_for_adam(dataset):
    def final(optimizer, placement):
        return metrics_of(Trainer(small(optimizer=optimizer, placement=placement), dataset))

    np.testing.assert_allclose(final("sgd", "gradient"), final("sgd", "update"), rtol=1e-3)
    assert not np.allclose(final("adam", "gradient"), final("adam", "update"), rtol=1e-3)

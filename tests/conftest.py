import tempfile

import hypothesis
import jax
import pytest

from tests import variants

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests that need several devices get them without an accelerator.
jax.config.update("jax_num_cpu_devices", 8)

# Many tests compile the same programs. JAX writes them down without a lock, so each worker has a
# folder of its own, and the processes that tests start have none.
compiled = tempfile.TemporaryDirectory(prefix="gc-optax-tests-")
jax.config.update("jax_compilation_cache_dir", compiled.name)
KEPT_FROM_SECONDS = 0.1
jax.config.update("jax_persistent_cache_min_compile_time_secs", KEPT_FROM_SECONDS)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def pytest_unconfigure():
    compiled.cleanup()


# The first call of a jitted function is slow, so a deadline would make tests flaky.
hypothesis.settings.register_profile("pinned", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("pinned")


@pytest.fixture
def nothing_kept():
    """For tests that compile the same program twice: the second is not read from the folder."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float("inf"))
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", KEPT_FROM_SECONDS)


@pytest.fixture(scope="session", params=variants.VARIANTS, ids=lambda variant: variant.__name__)
def centralized(request):
    """What `centralize` makes of updates: eagerly, under `jit` and `vmap`, on several devices."""
    return request.param


@pytest.fixture
def default_promotion():
    """For tests on models as users and libraries write them, under JAX's default promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="session")
def tiny_cifar100(tmp_path_factory):
    """A folder of 8 training and 4 test images of noise."""
    import pyarrow.parquet as pq  # the tests of the core alone do without

    from tests.experiments.test_data import pixels_of, table

    folder = tmp_path_factory.mktemp("data") / "cifar100"
    folder.mkdir()
    pq.write_table(table(pixels_of(8, seed=1), range(8)), folder / "train.parquet")
    pq.write_table(table(pixels_of(4, seed=2), range(4)), folder / "test.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory):
    """A text of 20 sentences, all the same."""
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog, and then it sleeps.\n" * 20)
    return path

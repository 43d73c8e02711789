import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests that need several devices get them without an accelerator.
jax.config.update("jax_num_cpu_devices", 8)

# The first call of a jitted function is slow, so a deadline would make tests flaky.
hypothesis.settings.register_profile("pinned", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("pinned")


@pytest.fixture
def default_promotion():
    """For tests on models as users and libraries write them, under JAX's default promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield

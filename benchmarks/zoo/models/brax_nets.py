"""Networks of the agents of `brax`."""

import flax.linen as nn
import jax.numpy as jnp
from brax.training import networks

from benchmarks.zoo.case import Entry
from benchmarks.zoo.oracles.linen import case

PACKAGES = ["brax", "flax"]

X, IMAGE = jnp.ones((4, 6)), jnp.ones((4, 32, 32, 3))
HAND = (
    (r"hidden_\d+/kernel", (0,), "a layer whose kernel is divided by its norm"),
    (r".*(std|log_std)\w*/.*", (), "a scale per action"),
)
PIXELS = {"pixels/view_0": IMAGE, "pixels/view_1": IMAGE, "state": X}
LATENTS = {"latent_0": X, "latent_1": X, "proprio": X}

MODELS = {
    "MLP": (networks.MLP([8, 3]), X),
    "MLP, norms, no bias": (networks.MLP([8, 8, 3], bias=False, layer_norm=True), X),
    "MLP, spectral norm": (networks.SNMLP([8, 3]), X),
    "CNN": (networks.CNN([8, 8], [(3, 3), (3, 3)], [(1, 1), (2, 2)]), IMAGE),
    "pixels": (networks.VisionMLP([8, 3], policy_head=False, state_obs_key="state"), PIXELS),
    "latents": (networks.MLPHead([8, 3], latent_head_size=5), LATENTS),
    "policy with a scale": (
        networks.PolicyModuleWithStd(
            param_size=2,
            hidden_layer_sizes=(8, 8),
            activation=nn.swish,
            kernel_init=nn.initializers.lecun_uniform(),
            layer_norm=True,
            noise_std_type="log",
            init_noise_std=1.0,
            state_dependent_std=False,
        ),
        X,
    ),
    "policy with a scale from the state": (
        networks.PolicyModuleWithStd(
            param_size=2,
            hidden_layer_sizes=(8, 8),
            activation=nn.swish,
            kernel_init=nn.initializers.lecun_uniform(),
            layer_norm=False,
            noise_std_type="scalar",
            init_noise_std=1.0,
            state_dependent_std=True,
        ),
        X,
    ),
}


def entries() -> list[Entry]:
    """All of the table."""
    return [
        Entry(name, lambda row=row: case(*row, hand=HAND, rngs=("sing_vec",)))
        for name, row in MODELS.items()
    ]

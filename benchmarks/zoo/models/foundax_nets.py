"""Neural operators of `foundax`."""

import equinox as eqx
import jax.numpy as jnp
from foundax import architectures as arch

from benchmarks.zoo.case import UNUSED, Entry
from benchmarks.zoo.oracles.equinox import case
from benchmarks.zoo.oracles.rules import all_but_first, all_but_last

PACKAGES = ["foundax", "equinox"]

B = 2
LINE, PLANE = jnp.ones((B, 16, 2)), jnp.ones((B, 16, 16, 2))
SPACE, POINTS = jnp.ones((B, 8, 8, 8, 2)), jnp.ones((B, 9, 2))
FNO = {"in_features": 2, "hidden_channels": 6, "n_modes": 3, "n_layers": 2}
DEEP = {
    "n_sensors": 7,
    "coord_dim": 2,
    "basis_functions": 6,
    "branch_hidden_dims": (8,),
    "trunk_hidden_dims": (8,),
    "branch_hidden_dim": 8,
    "trunk_hidden_dim": 8,
    "branch_n_layers": 1,
    "branch_n_blocks": 1,
    "branch_n_heads": 2,
    "trunk_n_blocks": 1,
    "branch_channels": (4, 4),
    "combination_hidden_dims": (8,),
    "combination_d_model": 8,
    "combination_n_heads": 2,
}
DEEP_ARGS = jnp.ones((B, 7)), POINTS


def last(module, shape):
    """Kernels of this package are stored (..., in, out), not those of Equinox."""
    return all_but_first(shape) if isinstance(module, eqx.nn.Conv) else all_but_last(shape)


LAYERS = ("Conv2d", "ConvTranspose2d", "ConvTranspose1d", "Conv1dNHWC", "Conv2dNHWC", "Conv1dCL")
RULES = {name: {"weight": last, "bias": lambda module, shape: ()} for name in LAYERS}
NEVER_RUN = r".*mgconv_layers/\d/post_smooth_layers/4/.*"
HAND = (
    (NEVER_RUN, (), UNUSED),
    (r".*weight(_\d)?_(real|imag)", (0,), "each mode by itself: (in, out, modes)"),
    (r".*pos_embedding", (), "learned positions"),
    (r"combiner/W", (0, 1), "a form of two inputs: (in, in, out)", ((), (0,), (1,))),
)

MODELS = {
    "FNO, one dimension": (arch.FNO1D, FNO, (LINE,)),
    "FNO, two dimensions": (arch.FNO2D, FNO | {"d_model": (16, 16)}, (PLANE,)),
    "FNO, three dimensions": (arch.FNO3D, FNO | {"d_model": (8, 8, 8)}, (SPACE,)),
    "U-Net, line": (arch.UNet1D, {"in_channels": 2, "depth": 2, "wf": 2, "norm": "layer"}, (LINE,)),
    "U-Net": (arch.UNet2D, {"in_channels": 2, "depth": 2, "wf": 2, "norm": "layer"}, (PLANE,)),
    "U-Net, resized": (
        arch.UNet2D,
        {"in_channels": 2, "depth": 2, "wf": 2, "norm": "layer", "up_mode": "upsample"},
        (PLANE,),
    ),
    "CNO": (
        arch.CNO2D,
        {"in_dim": 2, "out_dim": 1, "size": 16, "N_layers": 2, "N_res": 1, "N_res_neck": 1}
        | {"channel_multiplier": 4, "use_bn": False},
        (PLANE,),
    ),
    "MgNO": (
        arch.MgNO,
        {"input_shape": (16, 16), "num_layer": 2, "num_channel_u": 4, "num_channel_f": 2},
        (PLANE,),
    ),
    "MgNO, line": (
        arch.MgNO1D,
        {"input_length": 16, "num_layer": 2, "num_channel_u": 4, "num_channel_f": 2},
        (LINE,),
    ),
    "PointNet": (
        arch.PointNet,
        {"in_features": 2, "output_dim": 3, "hidden_dims": [6, 8, 8, 6]},
        (POINTS,),
    ),
    "MLP, norms": (arch.MLP, {"in_features": 2, "layer_norm": True}, (jnp.ones((B, 2)),)),
}
for branch in ("mlp", "resmlp", "conv1d", "transformer"):
    MODELS[f"DeepONet, {branch}"] = (arch.DeepONet, DEEP | {"branch_type": branch}, DEEP_ARGS)
for trunk in ("siren", "resmlp"):
    MODELS[f"DeepONet, trunk {trunk}"] = (arch.DeepONet, DEEP | {"trunk_type": trunk}, DEEP_ARGS)
for way in ("bilinear", "mlp", "attention"):
    MODELS[f"DeepONet, by {way}"] = (arch.DeepONet, DEEP | {"combination_type": way}, DEEP_ARGS)


def entry(name: str, cls, options, args) -> Entry:
    """One operator on a batch of functions."""
    make = lambda key: cls(**options, key=key)  # noqa: E731
    return Entry(name, lambda: case(make, *args, hand=HAND, rules=RULES, real=True))


def entries() -> list[Entry]:
    """All of the table."""
    return [entry(name, *row) for name, row in MODELS.items()]

"""Example networks in Flax NNX, each readable in one sitting.

They need the extra `experiments`: `pip install "gc-optax[experiments]"`. Every network is made by
`Network(input_shape, classes, rngs=...)` and maps a batch `(batch, *input_shape)` of images to
logits `(batch, classes)`; a GPT maps tokens `(batch, length)` to the logits of the next tokens,
`(batch, length, classes)`.

`dtype=jnp.bfloat16` has them compute in that dtype. Parameters, statistics and logits stay float32.

A new network is in train mode, and `network.eval()` and `network.train()` switch. In train mode,
batch normalization goes by the batch and updates its running statistics, and dropout drops: VGG and
ViT, and a GPT with dropout, are then called with a source of keys,
`network(images, rngs=nnx.Rngs(dropout=0))`. The networks hold no keys themselves: their state is
`nnx.Param` and `nnx.BatchStat`, and nothing else.
"""

from collections.abc import Callable

from flax import nnx

from gc_optax.models.cnn import CNN as CNN
from gc_optax.models.densenet import DenseNet as DenseNet
from gc_optax.models.gpt import GPT as GPT
from gc_optax.models.mlp import MLP as MLP
from gc_optax.models.resnet import ResNet as ResNet
from gc_optax.models.resnet import resnet8 as resnet8
from gc_optax.models.resnet import resnet18 as resnet18
from gc_optax.models.resnet import resnet20 as resnet20
from gc_optax.models.resnet import resnet101 as resnet101
from gc_optax.models.resnext import ResNeXt as ResNeXt
from gc_optax.models.vgg import VGG as VGG
from gc_optax.models.vit import ViT as ViT

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet8": resnet8,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "resnet101": resnet101,
    "resnext29": ResNeXt,
    "vgg11": VGG,
    "densenet121": DenseNet,
    "vit": ViT,
    "gpt": GPT,
}
"""The networks by the names that `gc-optax` knows them by."""

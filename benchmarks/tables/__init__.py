"""The committed numbers of the benchmarks as tables of the documentation.

A page has them by a line such as `<!-- table: updates H100 float32 -->`, which names a function of
this package and its arguments.
"""

from .compiled import SMALLEST, STEP, decoder, formulations, misses, steps, updates, versions
from .others import implementations, precision, reliability, speed, zoo, zoo_misses
from .overhead import (
    compile_times,
    cost,
    cost_of_resnet50,
    measured,
    processor_times,
    scheduled,
    torch_times,
    training_steps,
)

__all__ = [
    "SMALLEST",
    "STEP",
    "compile_times",
    "cost",
    "cost_of_resnet50",
    "decoder",
    "formulations",
    "implementations",
    "measured",
    "misses",
    "precision",
    "processor_times",
    "reliability",
    "scheduled",
    "speed",
    "steps",
    "torch_times",
    "training_steps",
    "updates",
    "versions",
    "zoo",
    "zoo_misses",
]

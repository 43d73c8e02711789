"""The committed numbers of `compiled.py` and `overhead.py` as tables of the documentation.

A page has them by a line such as `<!-- table: updates H100 float32 -->`, which names a function of
this package and its arguments.
"""

from .compiled import SMALLEST, STEP, decoder, formulations, misses, steps, updates, versions
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
    "measured",
    "misses",
    "processor_times",
    "scheduled",
    "steps",
    "torch_times",
    "training_steps",
    "updates",
    "versions",
]

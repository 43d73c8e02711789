"""The tables of docs/, from the code and the committed numbers.

    python -m tests.docs_tables

prints them all; `tests/test_docs.py` looks for them in the pages.
"""

import inspect
import json
import pathlib
import re
from collections.abc import Iterable

import jax
from flax import nnx

from benchmarks.zoo.tables import totals
from gc_optax._name_rules import RULES
from gc_optax.experiments.presentation.markdown import table
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.settings.presets import PROTOCOLS, settings
from gc_optax.models import MODELS
from tests.authors import ALGORITHM_GC, GC_CODE, HELPERS, WITHOUT_THE_ALIAS, Row
from tests.test_chains import OURS, THEIRS, Chain

RESULTS = pathlib.Path(__file__).parents[1] / "benchmarks" / "results"


def numbers(file: str) -> dict:
    """What a benchmark wrote."""
    return json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))


def rules_table() -> str:
    """The table of rules."""
    lines = ["| leaf | module around it | can be | by its bias also |", "|---|---|---|---|"]
    for rule in RULES:
        leaf, module = (
            f"`{cell}`".replace("|", "\\|") if cell != ".*" else "any"
            for cell in (rule.leaf, rule.module)
        )
        layouts, by_bias = (
            "; ".join(dict.fromkeys(map(str, layouts))) for layouts in (rule.layouts, rule.by_bias)
        )
        guess = "" if rule.layouts and not rule.guess else "always a guess"
        can_be = f"{layouts} ({guess})" if layouts and guess else layouts or guess
        lines.append(f"| {leaf} | {module} | {can_be} | {by_bias} |")
    return "\n".join(lines) + "\n"


def links(chain: str) -> str:
    """Each transformation of a chain as code, split at the commas outside of brackets."""
    parts, depth = [""], 0
    for character in chain:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return ", ".join(f"`{part.strip()}`" for part in parts)


def chain_table(title: str, chains: dict[str, Chain]) -> str:
    """Where GC stands in a chain, and what becomes of the mean of each unit's weights."""
    said = {"preserved": "yes", "decays": "no, it decays", "moves": "no"}
    lines = [f"| {title} | `optax.chain` of | weight mean preserved |", "|---|---|---|"]
    for name, chain in chains.items():
        lines.append(f"| {name} | {links(chain.row.chain)} | {said[chain.mean]} |")
    return "\n".join(lines) + "\n"


def their_chains_table() -> str:
    """The chains that give the numbers of the authors' classes."""
    return chain_table("the paper's code", THEIRS)


def our_chains_table() -> str:
    """The chains that are no class of theirs."""
    return chain_table("with Optax's own constants", OURS)


def authors_table(rows: Iterable[Row]) -> str:
    """The chain for each class of the authors, and what Optax does by itself."""
    lines = ["| there | `optax.chain` of | Optax's own, for new code |", "|---|---|---|"]
    lines += [f"| `{row.there}` | {links(row.chain)} | {row.own} |" for row in rows]
    return "\n".join(lines) + "\n"


def gc_code_table() -> str:
    """The older code."""
    return authors_table(GC_CODE)


def algorithm_gc_table() -> str:
    """The newer code."""
    return authors_table(ALGORITHM_GC)


def without_the_alias_table() -> str:
    """What cannot be had, and the chain that comes nearest."""
    return authors_table(WITHOUT_THE_ALIAS)


def helpers_block() -> str:
    """The functions that these chains are written with, as an example that runs."""
    lines = []
    for helper in HELPERS:
        first, *rest = inspect.getsource(helper).rstrip().splitlines()
        lines += [f">>> {first}", *(f"... {line}".rstrip() for line in rest)]
    return "\n".join(lines) + "\n"


AUTHORS_TABLES = (gc_code_table, algorithm_gc_table, without_the_alias_table, helpers_block)
CHAIN_TABLES = (their_chains_table, our_chains_table)


def zoo_table() -> str:
    """How many leaves of other people's models come out right."""
    total = totals(numbers("zoo"))
    lines = [
        f"| {total['models']} models, {total['leaves']:,} leaves | right | a guess, and says so "
        "| left alone, though it is a layer's | wrong without a word |",
        "|---|---|---|---|---|",
        f"| `fan_in_by_trace` | {total['trace right']:,} | - | {total['trace left alone wrongly']} "
        f"| {total['trace wrong']} |",
        f"| `fan_in_by_name` | {total['names right']:,} | {total['names guess']:,} | - "
        f"| {total['names wrong']} |",
    ]
    return "\n".join(lines)


def zoo_misses_table() -> str:
    """The leaves that tracing leaves alone though they are a layer's, and what it says of them."""
    lines = ["| model | leaf | axes of its layer | what tracing says |", "|---|---|---|---|"]
    for package in numbers("zoo")["packages"].values():
        for model, row in package["models"].items():
            for finding in row["findings"]:
                if finding["by"] == "trace" and finding["verdict"] == "left alone wrongly":
                    reason = re.sub(r", (at|before the use at) .*", "", finding["reason"])
                    axes = ", ".join(map(str, finding["right"]))
                    lines.append(f"| {model} | `{finding['leaf']}` | {axes} | {reason} |")
    return "\n".join(lines)


def models_table() -> str:
    """The networks and their parameters for CIFAR-100, or 65 characters."""
    lines = ["| model | parameters | in |", "|---|---|---|"]
    for name, make in MODELS.items():
        shape, classes = ((64,), 65) if name == "gpt" else ((32, 32, 3), 100)
        network = nnx.eval_shape(lambda: make(shape, classes, rngs=nnx.Rngs(0)))  # noqa: B023
        params = jax.tree.leaves(nnx.as_pure(nnx.state(network, nnx.Param)))
        file = getattr(make, "func", make).__module__.rpartition(".")[2]
        count = sum(leaf.size for leaf in params)
        lines.append(f"| `{name}` | {count:,} | `{file}.py` |")
    return "\n".join(lines) + "\n"


def protocols_table() -> str:
    """What each protocol stands for."""
    lines = ["| protocol | network | optimizer | rate | batch | epochs | seeds |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name in PROTOCOLS:
        c = Config(**settings(name, {}))
        decay = f", weight decay {c.weight_decay:g}" if c.weight_decay else ""
        placed = ", GC on the update" if c.placement == "update" else ""
        rate = f"{' / '.join(f'{r:g}' for r in c.learning_rates)}, {c.schedule}"
        rate += f" every {c.decay_epochs}" if c.decay_epochs else ""
        lines.append(
            f"| `{name}` | {c.model} | {c.optimizer}{decay}{placed} | {rate} | {c.batch_size} | "
            f"{c.epochs} | {c.seeds} |"
        )
    return "\n".join(lines) + "\n"


def speed_table() -> str:
    """The committed throughputs."""
    content = numbers("throughput")
    lines = ["| | images/s | over the Python loop | time over one seed |", "|---|---|---|---|"]
    for case, result in content["cases"].items():
        lines.append(f"| **{case}**, batches of {result['batch_size']} | | | |")
        for variant, values in result["variants"].items():
            lines.append(
                f"| {variant} | {values['images_per_second']:,.0f} | "
                f"{values['speed_over_python_loop']:.2f} | {values['time_over_one_seed']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def precision_table() -> str:
    """The committed errors at the largest fan-in, the larger of those over the two axes."""
    content = numbers("precision")
    keys = (
        *("residual_mean", "error", "error_of_exact_rounded_once"),
        *("mean_error_one_by_one_in_float32", "mean_error_one_by_one_in_dtype"),
    )
    worst: dict = {}
    for case in content["cases"]:
        if case["fan_in"] == 10_000_000 and (case["offset"] != 100 or "e4m3" in case["dtype"]):
            row = worst.setdefault((case["dtype"], case["offset"]), [])
            # JSON has no infinity.
            row.append([float("inf") if case[key] is None else case[key] for key in keys])

    def cell(value: float) -> str:
        if value == float("inf"):
            return "not finite"
        return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"

    header = ["dtype", "offset", "residual mean", "error", "exact, rounded once"]
    header += ["mean added one by one in float32", "in the dtype"]
    lines = (
        [dtype, f"{offset:,g}", *(cell(max(column)) for column in zip(*rows, strict=True))]
        for (dtype, offset), rows in worst.items()
    )
    return table(header, lines, "lrrrrrr")


if __name__ == "__main__":
    for make in (
        *(zoo_table, zoo_misses_table, rules_table, models_table, protocols_table, speed_table),
        precision_table,
        *CHAIN_TABLES,
        *AUTHORS_TABLES,
    ):
        print(make())

"""The tables of docs/ that come from the code; `benchmarks.tables` has those of numbers.

    python -m tests.docs_tables

prints them all; `tests/test_docs.py` looks for them in the pages.
"""

import inspect
from collections.abc import Iterable

import jax
from flax import nnx

from gc_optax._name_rules import RULES
from gc_optax.experiments.settings.config import Config
from gc_optax.experiments.settings.presets import PROTOCOLS, settings
from gc_optax.models import MODELS
from tests.authors import ALGORITHM_GC, GC_CODE, HELPERS, WITHOUT_THE_ALIAS, Row
from tests.test_chains import OURS, THEIRS, Chain


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


if __name__ == "__main__":
    for make in (
        *(rules_table, models_table, protocols_table),
        *CHAIN_TABLES,
        *AUTHORS_TABLES,
    ):
        print(make())

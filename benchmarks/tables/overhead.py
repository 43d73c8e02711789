"""The committed numbers of `overhead.py`."""

import json
from pathlib import Path

from .compiled import grouped, read
from .markdown import markdown

RESULTS = Path(__file__).parents[1] / "results" / "overhead.json"
MIB = 2**20


def overhead(threads: str) -> dict:
    """What `overhead.py` wrote for so many threads."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))[threads]


def ratio(value: dict, digits: int = 2) -> str:
    """The median, and the quartiles in brackets."""
    middle, low, high = (f"{x:.{digits}f}" for x in (value["median"], *value["quartiles"]))
    return f"{middle} ({low}-{high})"


def _updates_on_cpu(threads: str) -> list[dict]:
    """The update steps, tree by tree."""
    rows = [row for row in overhead(threads)["rows"] if "chain" in row]
    trees = list(dict.fromkeys(row["tree"] for row in rows))
    return sorted(rows, key=lambda row: trees.index(row["tree"]))


def measured(threads: str) -> str:
    """With how many threads, with what, and how often."""
    content = overhead(threads)
    found = content["versions"]
    names = {"jax": "JAX", "optax": "Optax", "torch": "PyTorch"}
    shown = [f"{names[name]} {found[name].partition(',')[0]}" for name in names if found.get(name)]
    return f"{_threads(threads)}, {content['rounds']} rounds, {', '.join(shown)}:\n"


def _threads(threads: str) -> str:
    return "One thread" if threads == "1" else f"{threads} threads"


def processor_times(threads: str) -> str:
    """Ratios of processor time, and temporary memory."""
    header = ["parameters of", "place of GC", "without GC, ms", "GC", "`optax`"]
    header += ["scheduled for memory: without GC", "GC", "temporary memory of GC, MiB", "scheduled"]
    lines = []
    for row in _updates_on_cpu(threads):
        over, memory = row["over_none"], row["temporary_bytes"]
        lines.append(
            [
                *(row["tree"], f"`{row['chain']}`"),
                f"{1e3 * row['seconds']['none']['median']:.1f}",
                *(
                    ratio(over[name])
                    for name in ("gc", "optax", "none, scheduled", "gc, scheduled")
                ),
                *(f"{memory[name] / MIB:.1f}" for name in ("gc", "gc, scheduled")),
            ]
        )
    return markdown(header, lines, 2)


def scheduled() -> str:
    """How far the rows in which what is centralized is computed first are, scheduled or not."""
    rows = [row for threads in ("1", "2") for row in _updates_on_cpu(threads)]
    in_lookahead = [row for row in rows if row["chain"].startswith("lookahead")]
    computed_first = [
        row for row in rows if not row["chain"].startswith(("centralize", "lookahead"))
    ]

    def ratios(of: list[dict], variant: str) -> list[float]:
        return sorted(row["over_none"][variant]["median"] for row in of)

    default, by_memory = (ratios(computed_first, name) for name in ("gc", "gc, scheduled"))
    above = sum(value > 1.5 for value in by_memory)
    shares = (
        row["temporary_bytes"]["gc, scheduled"] / (4 * row["parameters"]) for row in computed_first
    )
    inside = ratios(in_lookahead, "gc"), ratios(in_lookahead, "gc, scheduled")
    return (
        f"Where what is centralized is computed first, GC takes {default[0]:.2f} to "
        f"{default[-1]:.2f} times the chain without it, and scheduled for memory "
        f"{by_memory[0]:.2f} to {by_memory[-1]:.2f} times ({above} of {len(by_memory)} rows above "
        f"1.5), with temporary memory of at most {max(shares):.0%} of the parameters. In "
        f"Lookahead, which holds such arrays anyway, it takes {inside[0][0]:.2f} to "
        f"{inside[0][-1]:.2f} times, and scheduled for memory {inside[1][0]:.2f} to "
        f"{inside[1][-1]:.2f}.\n"
    )


def torch_times(threads: str) -> str:
    """The same updates in PyTorch."""
    header = ["parameters of", "place of GC", "JAX: GC / without", "PyTorch: GC / without"]
    header += ["PyTorch, fused: GC / without"]
    lines = []
    for row in _updates_on_cpu(threads):
        if row["torch"]:
            found = [row["torch"].get(kind) for kind in ("default", "fused")]
            lines.append(
                [
                    *(row["tree"], f"`{row['chain']}`", ratio(row["over_none"]["gc"])),
                    *(ratio(value["gc_over_alone"]) if value else "" for value in found),
                ]
            )
    return f"{_threads(threads)}:\n\n{markdown(header, lines, 2)}"


def compile_times(threads: str) -> str:
    """Seconds to compile an update step."""
    header = ["parameters of", "place of GC", "leaves", "without GC, s", "GC", "`optax`"]
    lines = [
        [
            *(row["tree"], f"`{row['chain']}`", f"{row['leaves']:,}"),
            *(f"{row['compile_seconds'][name]:.1f}" for name in ("none", "gc", "optax")),
        ]
        for row in _updates_on_cpu(threads)
    ]
    return markdown(header, lines, 2)


def training_steps(threads: str) -> str:
    """Whole training steps on this device."""
    header = [
        "network",
        "place of GC",
        "batch",
        "without GC, ms",
        "GC / without",
        "its update: GC / without",
    ]
    header += ["what GC adds to the update / step"]
    lines = [
        [
            *(
                row["tree"].removeprefix("training step of "),
                f"`{row['place']}`",
                str(row["batch"]),
            ),
            f"{1e3 * row['seconds']['none']['median']:.0f}",
            *(ratio(row["gc_over_none"]), ratio(row["update"]["over_none"]["gc"])),
            f"{row['share_of_step']:.2%}",
        ]
        for row in overhead(threads)["rows"]
        if "chain" not in row
    ]
    return markdown(header, lines, 2)


def cost() -> str:
    """What GC adds to the update of ResNet-50, in one table."""
    header = ["place of GC", "CPU: time, 1 thread", "2 threads", "1 thread, scheduled for memory"]
    header += ["H100: bytes", "TPU v5e: bytes", "TPU v6e: bytes"]
    lines = []
    on_cpu = {
        threads: {
            row["chain"]: row for row in _updates_on_cpu(threads) if row["tree"] == "ResNet-50"
        }
        for threads in ("1", "2")
    }
    compiled = {target: _resnet50(target) for target in ("H100", "v5e:2x2", "v6e:2x2")}
    for place in compiled["H100"]:
        one, two = (on_cpu[threads][place] for threads in ("1", "2"))
        bytes_moved = (
            found[place]["gc"]["moved"] / found[place]["none"]["moved"]
            for found in compiled.values()
        )
        lines.append(
            [
                *(f"`{place}`", f"{one['over_none']['gc']['median']:.2f}"),
                f"{two['over_none']['gc']['median']:.2f}",
                f"{_scheduled_for_memory(one):.2f}",
                *(f"{value:.2f}" for value in bytes_moved),
            ]
        )
    return markdown(header, lines, 1)


def cost_of_resnet50() -> str:
    """One line each for CPU, GPU and TPU: what GC adds to an update step, in three places."""
    places = ("centralize, sgd", "add_decayed_weights, centralize, sgd", "adamw, centralize")
    cpu = {row["chain"]: row for row in _updates_on_cpu("1") if row["tree"] == "ResNet-50"}
    times = (
        f"{cpu[place]['over_none']['gc']['median']:.2f} ({_scheduled_for_memory(cpu[place]):.2f})"
        for place in places
    )
    lines = [["CPU: time (scheduled for memory)", *times]]
    for name, target in (("GPU (H100)", "H100"), ("TPU (v5e)", "v5e:2x2")):
        found = _resnet50(target)
        moved = (found[place]["gc"]["moved"] / found[place]["none"]["moved"] for place in places)
        lines.append([f"{name}: bytes", *(f"{value:.2f}" for value in moved)])
    return markdown(["", *(f"`{place}`" for place in places)], lines, 1)


def _scheduled_for_memory(row: dict) -> float:
    """GC over the chain without it, both scheduled for memory."""
    over = row["over_none"]
    return over["gc, scheduled"]["median"] / over["none, scheduled"]["median"]


def _resnet50(target: str) -> dict[str, dict[str, dict]]:
    """The compiled updates in float32, by place and variant."""
    rows = [
        row
        for row in read(target)["rows"]
        if (row["tree"], row["gradients"]) == ("ResNet-50", "float32")
    ]
    return {place: found for (place,), found in grouped(rows, "place").items()}

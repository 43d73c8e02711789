"""The committed numbers of `compiled.py` and `overhead.py` as tables of the documentation.

A page has them by a line such as `<!-- table: updates H100 float32 -->`, which names a function of
this module and its arguments.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SMALLEST = "ViT-B/16, 2 layers"
STEP = "training step: "
MIB = 2**20


def read(target: str) -> dict:
    """What `compiled.py` wrote for a target such as `v5e:2x2`."""
    path = RESULTS / "compiled" / f"{target.replace(':', '_')}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def overhead(threads: str) -> dict:
    """What `overhead.py` wrote for so many threads."""
    return json.loads((RESULTS / "overhead.json").read_text(encoding="utf-8"))[threads]


def versions(target: str) -> str:
    """Of what compiled, as in `jax 0.12.0.1, optax 0.2.8, libtpu 0.0.50.1`."""
    found = read(target)["versions"].items()
    return f"Compiled by {', '.join(f'{name} {version}' for name, version in found)}.\n"


def grouped(rows, *keys: str) -> dict[tuple, dict[str, dict]]:
    """The variants of each program, by the values of `keys`."""
    found: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(key) for key in keys), {})[row["variant"]] = row
    return found


def arrays(row: dict, key: str = "moved") -> str:
    """Bytes in arrays as large as the parameters."""
    return f"{row[key] / row['parameters']:.2f}"


def kernels_per_leaf(found: dict[str, dict], variant: str) -> str:
    """How many kernels a centralized leaf adds."""
    added = found[variant]["kernels"] - found["none"]["kernels"]
    return f"{added / found['none']['centralized_leaves']:.2f}"


def markdown(header: list[str], rows: list[list[str]], left: int) -> str:
    """A table whose first `left` columns are words."""
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def updates(target: str, gradients: str) -> str:
    """The update steps on one device."""
    rows = [
        row
        for row in read(target)["rows"]
        if row["gradients"] == gradients and "devices" not in row and row["tree"] != SMALLEST
    ]
    header = ["", "place of GC", "needed", "without GC", "GC", "`optax.centralize()`"]
    header += ["kernels of GC per leaf", "of `optax`", "temporary memory of GC, MiB"]
    lines = [
        [
            *(tree, f"`{place}`", arrays(found["gc"], "needed")),
            *(arrays(found[variant]) for variant in ("none", "gc", "optax")),
            *(kernels_per_leaf(found, variant) for variant in ("gc", "optax")),
            f"{found['gc']['temporary'] / MIB:.1f}",
        ]
        for (tree, place), found in grouped(rows, "tree", "place").items()
    ]
    return markdown(header, lines, 2)


def formulations(*targets: str) -> str:
    """GC as it is written, and as one would write it."""
    header = ["target", "gradients", "place of GC", "needed", "GC", "plain", "`optax`"]
    header += ["kernels per leaf: GC", "plain", "`optax`"]
    lines = []
    for target in targets:
        rows = [row for row in read(target)["rows"] if row["tree"] == SMALLEST]
        for (gradients, place), found in grouped(rows, "gradients", "place").items():
            shown = ("gc", "plain", "optax")
            lines.append(
                [
                    *(target, gradients, f"`{place}`", arrays(found["gc"], "needed")),
                    *(arrays(found[variant]) for variant in shown),
                    *(kernels_per_leaf(found, variant) for variant in shown),
                ]
            )
    return markdown(header, lines, 3)


def _sent(row: dict) -> str:
    parts = [
        f"{count:.0f} {kind} ({size / MIB:,.1f} MiB)"
        for kind, (count, size) in sorted(row["collectives"].items())
    ]
    return ", ".join(parts) or "nothing"


def decoder(*targets: str) -> str:
    """The update of the decoder."""
    header = ["target", "devices", "place of GC", "sent without GC", "sent with GC"]
    header += ["needed", "without GC", "GC", "`optax.centralize()`", "temporary memory of GC, MiB"]
    lines = []
    for target in targets:
        rows = [
            row
            for row in read(target)["rows"]
            if row["tree"].startswith("decoder") and not row["place"].startswith(STEP)
        ]
        for (devices, place), found in grouped(rows, "devices", "place").items():
            lines.append(
                [
                    *(target, str(devices), f"`{place}`"),
                    *(_sent(found[variant]) for variant in ("none", "gc")),
                    arrays(found["gc"], "needed"),
                    *(arrays(found[variant]) for variant in ("none", "gc", "optax")),
                    f"{found['gc']['temporary'] / MIB:,.1f}",
                ]
            )
    return markdown(header, lines, 5)


def steps(*targets: str) -> str:
    """Whole training steps: what GC adds to them."""
    header = ["", "target", "devices", "sent without GC", "sent with GC", "kernels without", "with"]
    header += ["peak memory without, MiB", "with", "bytes that GC adds"]
    lines = []
    for target in targets:
        rows = [row for row in read(target)["rows"] if row["place"].startswith(STEP)]
        for (tree, devices), found in grouped(rows, "tree", "devices").items():
            pair = found["none"], found["gc"]
            lines.append(
                [
                    *(tree, target, str(devices), *(_sent(row) for row in pair)),
                    *(f"{row['kernels']:,}" for row in pair),
                    *(f"{row['peak'] / MIB:,.0f}" for row in pair),
                    f"{pair[1]['moved'] / pair[0]['moved'] - 1:+.2%}",
                ]
            )
    return markdown(header, lines, 5)


def misses(*targets: str) -> str:
    """Where GC moves 2 % more than is needed, 1 % more than `optax`, or has more kernels."""
    header = ["target", "", "gradients", "place of GC", "needed", "GC", "`optax.centralize()`"]
    header += ["kernels of GC per leaf"]
    lines = []
    for target in targets:
        rows = [row for row in read(target)["rows"] if "devices" not in row]
        aimed_kernels = 1.0 if ":" in target else 1.5
        for (tree, gradients, place), found in grouped(rows, "tree", "gradients", "place").items():
            gc, optax = found["gc"], found["optax"]
            too_much = gc["moved"] > 1.02 * gc["needed"] or gc["moved"] > 1.01 * optax["moved"]
            kernels = kernels_per_leaf(found, "gc")
            if too_much or float(kernels) > aimed_kernels:
                lines.append(
                    [
                        *(target, tree, gradients, f"`{place}`", arrays(gc, "needed")),
                        *(arrays(gc), arrays(optax), kernels),
                    ]
                )
    return markdown(header, lines, 4)


def ratio(value: dict, digits: int = 2) -> str:
    """The median, and the quartiles in brackets."""
    middle, low, high = (f"{x:.{digits}f}" for x in (value["median"], *value["quartiles"]))
    return f"{middle} ({low}-{high})"


def _updates_on_cpu(threads: str) -> list[dict]:
    return [row for row in overhead(threads)["rows"] if "chain" in row]


def measured(threads: str) -> str:
    """On which device, with what, and how often."""
    content = overhead(threads)
    found = {name: version for name, version in content["versions"].items() if version}
    shown = ", ".join(
        f"{name} {found[name]}" for name in ("jax", "optax", "torch") if name in found
    )
    return f"Threads: {threads}. {content['rounds']} rounds. {shown}.\n"


def processor_times(threads: str) -> str:
    """Ratios of processor time, and temporary memory."""
    header = ["", "place of GC", "without GC, ms", "GC", "`optax.centralize()`"]
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


def torch_times(threads: str) -> str:
    """The same updates in PyTorch."""
    header = ["", "place of GC", "JAX: GC / without", "PyTorch: GC / without", "fused"]
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
    return markdown(header, lines, 2)


def compile_times(threads: str) -> str:
    """Seconds to compile an update step."""
    header = ["", "place of GC", "leaves", "without GC, s", "GC", "`optax.centralize()`"]
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
        "",
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
    compiled = {}
    for target in ("H100", "v5e:2x2", "v6e:2x2"):
        rows = [
            row
            for row in read(target)["rows"]
            if (row["tree"], row["gradients"]) == ("ResNet-50", "float32")
        ]
        compiled[target] = grouped(rows, "place")
    for (place,) in compiled["H100"]:
        one, two = (on_cpu[threads][place] for threads in ("1", "2"))
        bare = one["over_none"]["none, scheduled"]["median"]
        bytes_moved = (
            found[(place,)]["gc"]["moved"] / found[(place,)]["none"]["moved"]
            for found in compiled.values()
        )
        lines.append(
            [
                *(f"`{place}`", f"{one['over_none']['gc']['median']:.2f}"),
                f"{two['over_none']['gc']['median']:.2f}",
                f"{one['over_none']['gc, scheduled']['median'] / bare:.2f}",
                *(f"{value:.2f}" for value in bytes_moved),
            ]
        )
    return markdown(header, lines, 1)

"""The committed numbers of `compiled.py`."""

import json
from pathlib import Path

from .markdown import markdown

RESULTS = Path(__file__).parents[1] / "results" / "compiled"
SMALLEST = "ViT-B/16, 2 layers"
STEP = "training step: "
MIB = 2**20


def read(target: str) -> dict:
    """What `compiled.py` wrote for a target such as `v5e:2x2`."""
    path = RESULTS / f"{target.replace(':', '_')}.json"
    return json.loads(path.read_text(encoding="utf-8"))


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


def updates(target: str, gradients: str) -> str:
    """The update steps on one device."""
    rows = [
        row
        for row in read(target)["rows"]
        if row["gradients"] == gradients and "devices" not in row and row["tree"] != SMALLEST
    ]
    header = ["parameters of", "place of GC", "needed", "without GC", "GC", "`optax`"]
    header += ["kernels per leaf: GC", "kernels: `optax`", "temporary memory of GC, MiB"]
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
    header += ["kernels per leaf: GC", "kernels: plain", "kernels: `optax`"]
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
        f"{count:,.0f} {kind} ({size / MIB:,.1f} MiB)"
        for kind, (count, size) in sorted(row["collectives"].items())
    ]
    return ", ".join(parts) or "nothing"


def decoder(*targets: str) -> str:
    """The update of the decoder."""
    header = ["target", "devices", "place of GC", "sent because of GC", "needed", "without GC"]
    header += ["GC", "`optax`", "temporary memory of GC, MiB"]
    lines = []
    for target in targets:
        rows = [
            row
            for row in read(target)["rows"]
            if row["tree"].startswith("decoder") and not row["place"].startswith(STEP)
        ]
        for (devices, place), found in grouped(rows, "devices", "place").items():
            assert not found["none"]["collectives"]
            lines.append(
                [
                    *(target, str(devices), f"`{place}`", _sent(found["gc"])),
                    arrays(found["gc"], "needed"),
                    *(arrays(found[variant]) for variant in ("none", "gc", "optax")),
                    f"{found['gc']['temporary'] / MIB:,.1f}",
                ]
            )
    return markdown(header, lines, 4)


def steps(*targets: str) -> str:
    """Whole training steps: what GC adds to them."""
    header = ["network", "target", "devices", "sent without GC", "sent because of GC, MiB"]
    header += ["kernels without GC", "kernels with GC", "peak memory without GC, MiB"]
    header += ["peak with GC, MiB", "bytes that GC adds"]
    lines = []
    for target in targets:
        rows = [row for row in read(target)["rows"] if row["place"].startswith(STEP)]
        for (tree, devices), found in grouped(rows, "tree", "devices").items():
            pair = found["none"], found["gc"]
            sent = [sum(size for _, size in row["collectives"].values()) for row in pair]
            lines.append(
                [
                    *(tree, target, str(devices), _sent(pair[0])),
                    f"{(sent[1] - sent[0]) / MIB:.1f}",
                    *(f"{row['kernels']:,}" for row in pair),
                    *(f"{row['peak'] / MIB:,.0f}" for row in pair),
                    f"{pair[1]['moved'] / pair[0]['moved'] - 1:+.2%}",
                ]
            )
    return markdown(header, lines, 4)


def misses(*targets: str) -> str:
    """Where GC moves 2% more than is needed, 1% more than `optax`, or has more kernels."""
    header = ["target", "parameters of", "gradients", "place of GC", "needed", "GC", "`optax`"]
    header += ["kernels per leaf: GC"]
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

"""What `centralize` adds to an update step on this device, and to a whole training step.

    python benchmarks/overhead.py --threads 1
    python benchmarks/overhead.py --threads 2

Update steps are those of ResNet-50, GPT-2 small, ViT-B/16 and 1,000 tiny leaves, with GC in four
places of a chain, and of ResNet-50 in the other chains of docs/chain.md: without GC, with
`gc_optax.centralize()`, and with `optax.centralize()` (which takes the mean over other axes). On a
CPU the first two are also compiled without the scheduler that computes all leaves side by side. All
variants update the same donated buffers, in one process, in a random order in each round; a ratio
is the median over rounds, within which it is taken.

With PyTorch (the extra `benchmarks`), the same updates are timed there, after the JAX ones.

Each run fills its number of threads in the output, and writes it after every row. A row that is
there is not measured again, if the versions are the same.
"""

import argparse
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
from _architectures import TREES, count
from _places import OTHER_CHAINS, PLACES, params_of
from _training_steps import STEPS, measure_step
from _updates import measure_torch, measure_update

from gc_optax.experiments.execution import record as _record

RESULTS = Path(__file__).parent / "results" / "overhead.json"


def measurements(names, rounds: int, has_torch: bool) -> Iterator[tuple[dict, Callable[[], dict]]]:
    """What each row is about, and a function that measures it."""
    for tree, (shapes, published) in TREES.items():
        if count(shapes()) != published:
            raise ValueError(f"{tree} has {count(shapes())} parameters, not {published}.")
        chains = {name: place.chain for name, place in PLACES.items()}
        if tree == "ResNet-50":
            chains |= OTHER_CHAINS
        for name, chain in chains.items():

            def measure(shapes=shapes, name=name, chain=chain):
                row = measure_update(shapes(), chain, rounds, of=partial(params_of, name))
                is_timed = has_torch and name in PLACES
                return row | {"torch": measure_torch(shapes(), name, rounds) if is_timed else None}

            if tree in names:
                yield {"tree": tree, "chain": name}, measure
    for name, (step, batch) in STEPS.items():
        if name in names:
            yield (
                {"tree": f"training step of {name}"},
                lambda s=step, b=batch: measure_step(s, b, rounds),
            )


def use_threads(number: int) -> None:
    """Has XLA, PyTorch and this process use so many cores. Call it before JAX starts."""
    os.environ["OMP_NUM_THREADS"] = str(number)
    if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as there are cores for it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


def main():
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11, help="samples of each variant")
    names = [*TREES, *STEPS]
    parser.add_argument("--only", nargs="*", choices=names, default=names, metavar="NAME")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    use_threads(options.threads)
    has_torch = importlib.util.find_spec("torch") is not None
    if not has_torch:
        print("PyTorch is not installed (the extra `benchmarks`): it is not timed.")
    about = {
        "versions": {**_record.versions(), "torch": _torch_version() if has_torch else None},
        "device": _record.device(jax.devices()[:1]),
        "rounds": options.rounds,
    }
    content: dict[str, Any] = {}
    if options.output.exists():
        content = json.loads(options.output.read_text(encoding="utf-8"))
    before = content.get(str(options.threads))
    if before is None or before["versions"] != about["versions"]:
        content[str(options.threads)] = before = about | {"rows": []}
    for what, measure in measurements(options.only, options.rounds, has_torch):
        if any(what.items() <= row.items() for row in before["rows"]):
            continue
        row = what | measure()
        before["rows"].append(row)
        text = json.dumps(content, indent=1) + "\n"
        options.output.write_text(text, encoding="utf-8")
        print(shown(row), flush=True)


def shown(row: dict[str, Any]) -> str:
    """One line on a row."""
    if "chain" not in row:
        return f"{row['tree']}: {row['gc_over_none']['median']:.3f} times without GC"
    ratios = (f"{name} {value['median']:.2f}" for name, value in row["over_none"].items())
    memory = row["temporary_bytes"]["gc"] / 2**20
    torch = row["torch"] and f"; PyTorch {row['torch']['default']['gc_over_alone']['median']:.2f}"
    return f"{row['tree']}, {row['chain']}: {', '.join(ratios)}; {memory:.1f} MiB{torch or ''}"


def _torch_version() -> str:
    import _torch_updates

    return _torch_updates.version()


if __name__ == "__main__":
    main()

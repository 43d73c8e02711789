"""The learning rate at which a finished run of `none` did best on its last epoch.

    python benchmarks/best_rate.py RUN

The highest accuracy, and for text the lowest loss, of what the run was judged on. Runs that choose
a rate hold training examples out for it (`--validation-examples`).
"""

import json
import math
import pathlib
import sys


def best_rate(record: dict) -> float:
    """The best rate of the arm `none` by the record of a run."""
    if not record["complete"]:
        raise ValueError("the run is not complete.")
    text = record["config"]["dataset"] == "shakespeare"
    metric, sign = ("test_loss", -1) if text else ("test_accuracy", 1)

    def score(cell: dict) -> float:
        last = cell[metric]["mean"][-1]  # null where it is not finite
        if last is None or cell["diverged_seeds"] or not cell["finished"]:
            return -math.inf
        return sign * last

    cells = [cell for cell in record["results"] if cell["arm"] == "none"]
    best = max(cells, key=score, default=None)
    if best is None or score(best) == -math.inf:
        raise ValueError("no learning rate of `none` was trained to its end.")
    return best["learning_rate"]


if __name__ == "__main__":
    print(f"{best_rate(json.loads((pathlib.Path(sys.argv[1]) / 'run.json').read_text())):g}")

"""The committed numbers of the zoo, `implementations.py`, `throughput.py` and `precision.py`."""

import json
import math
import re
from pathlib import Path

from benchmarks.zoo.tables import totals

from .markdown import markdown

RESULTS = Path(__file__).parents[1] / "results"


def _numbers(file: str) -> dict:
    return json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))


def reliability() -> str:
    """How reliable the axes are, in a sentence."""
    found = totals(_numbers("zoo"))
    wrong = found["trace wrong"], found["names wrong"]
    silent = "no axes are" if wrong == (0, 0) else f"the axes of {sum(wrong)} are"
    return (
        f"How reliable is that? Of {found['leaves']:,} parameter arrays in {found['models']} "
        "models from packages and idioms of plain JAX, tracing gets "
        f"{found['trace right']:,} right and leaves alone "
        f"{found['trace left alone wrongly']} that belong to a layer, each with its reason; names "
        f"get {found['names right']:,} right and mark {found['names guess']:,} as guesses; "
        f"{silent} silently wrong.\n"
    )


def zoo() -> str:
    """How many leaves of other people's models come out right."""
    total = totals(_numbers("zoo"))
    header = [f"{total['models']} models, {total['leaves']:,} leaves", "right"]
    header += ["a guess, and says so", "left alone, though it is a layer's", "wrong without a word"]
    wrongly = f"{total['trace left alone wrongly']}"
    trace = [f"{total['trace right']:,}", "-", wrongly, f"{total['trace wrong']}"]
    guesses = f"{total['names guess']:,}"
    names = [f"{total['names right']:,}", guesses, "-", f"{total['names wrong']}"]
    return markdown(header, [["`fan_in_by_trace`", *trace], ["`fan_in_by_name`", *names]], 1)


def zoo_misses() -> str:
    """The leaves that tracing leaves alone though they are a layer's, and what it says of them."""
    lines = []
    for package in _numbers("zoo")["packages"].values():
        for model, row in package["models"].items():
            for finding in row["findings"]:
                if finding["by"] == "trace" and finding["verdict"] == "left alone wrongly":
                    reason = re.sub(
                        r"(, axes \(.*\))?,? (at|before the use at) .*", "", finding["reason"]
                    )
                    axes = ", ".join(map(str, finding["right"]))
                    lines.append([model, f"`{finding['leaf']}`", axes, reason])
    return markdown(["model", "leaf", "axes of its layer", "what tracing says"], lines, 4)


def implementations() -> str:
    """The axes that each implementation averages in each kind of layer; bold is wrong."""
    tried = _numbers("implementations")
    kinds = list(tried[-1]["outcomes"])

    def cell(outcome: dict | None) -> str:
        if outcome is None:
            return ""
        what = re.sub("^(axis|axes) ", "", outcome["what"]).replace("left alone", "none")
        return what if outcome["right"] else f"**{what}**"

    lines = [
        [each["name"], *(cell(each["outcomes"].get(kind)) for kind in kinds)] for each in tried
    ]
    return markdown(["", *kinds], lines, 1 + len(kinds))


def speed() -> str:
    """How fast networks are trained."""
    lines = []
    for case, result in _numbers("throughput")["cases"].items():
        lines.append([f"**{case}**, batches of {result['batch_size']}", "", "", ""])
        for variant, values in result["variants"].items():
            ratios = (values["speed_over_python_loop"], values["time_over_one_seed"])
            speed = f"{values['images_per_second']:,.0f}"
            lines.append([variant, speed, *(f"{ratio:.2f}" for ratio in ratios)])
    return markdown(["", "images/s", "over the Python loop", "time over one seed"], lines, 1)


def precision() -> str:
    """The errors at the largest fan-in, the larger of those over the two axes."""
    content = _numbers("precision")
    keys = (
        *("residual_mean", "error", "error_of_exact_rounded_once"),
        *("mean_error_one_by_one_in_float32", "mean_error_one_by_one_in_dtype"),
    )
    worst: dict = {}
    for case in content["cases"]:
        if case["fan_in"] == 10_000_000 and (case["offset"] != 100 or "e4m3" in case["dtype"]):
            row = worst.setdefault((case["dtype"], case["offset"]), [])
            # JSON has no infinity.
            row.append([math.inf if case[key] is None else case[key] for key in keys])

    def cell(value: float) -> str:
        if value == math.inf:
            return "not finite"
        return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"

    header = ["dtype", "offset", "residual mean", "error", "exact, rounded once"]
    header += ["mean added one by one in float32", "in the dtype"]
    lines = [
        [dtype, f"{offset:,g}", *(cell(max(column)) for column in zip(*rows, strict=True))]
        for (dtype, offset), rows in worst.items()
    ]
    version = content["versions"]["jax"]
    return f"JAX {version}, CPU:\n\n{markdown(header, lines, 1)}"

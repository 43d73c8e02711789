"""The table of the zoo from its JSON, for people and for the docs."""

from collections.abc import Mapping
from typing import Any

COLUMNS = (
    ("models", "models"),
    ("leaves", "leaves"),
    ("trace right", "right"),
    ("trace wrong", "wrong without a word"),
    ("trace left alone wrongly", "left alone wrongly"),
    ("names right", "names: right"),
    ("names guess", "guess"),
    ("names wrong", "wrong without a word"),
    ("no oracle", "no oracle"),
    ("seconds", "s per model"),
)
"""A key of `totals`, and what heads its column."""


def totals(content: Mapping[str, Any]) -> dict[str, Any]:
    """The sums over all packages of the JSON: models, leaves, and how many got which verdict."""
    return _summed(
        [row for package in content["packages"].values() for row in package["models"].values()]
    )


def _summed(rows) -> dict[str, Any]:
    result: dict[str, Any] = {"models": len(rows)}
    result |= {key: sum(row[key] for row in rows) for key in ("leaves", "matrices")}
    for by in ("trace", "names"):
        for verdict in rows[0][by] if rows else ():
            result[f"{by} {verdict}"] = sum(row[by][verdict] for row in rows)
    result["no oracle"] = result.get("trace no oracle", 0)
    result["seconds"] = round(sum(row["seconds"] for row in rows) / max(len(rows), 1), 2)
    return result


def markdown(content: Mapping[str, Any]) -> str:
    """One row per package and one of totals, as a Markdown table."""
    lines = [
        "| package | " + " | ".join(head for _, head in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, package in sorted(content["packages"].items()):
        summed = _summed(list(package["models"].values()))
        lines.append(_row(name, summed))
    lines.append(_row("**all**", totals(content)))
    return "\n".join(lines)


def _row(name: str, summed: Mapping[str, Any]) -> str:
    return f"| {name} | " + " | ".join(str(summed.get(key, 0)) for key, _ in COLUMNS) + " |"


def line(name: str, row: Mapping[str, Any]) -> str:
    """One model in one line."""
    trace, names = row["trace"], row["names"]
    return (
        f"{name}: {row['leaves']} leaves; trace {trace['right']} right, {trace['wrong']} wrong, "
        f"{trace['left alone wrongly']} left alone wrongly; names {names['right']} right, "
        f"{names['guess']} guesses, {names['wrong']} wrong; {trace['no oracle']} without oracle; "
        f"{row['seconds']:.2f} s"
    )


def finding(found: Mapping[str, Any]) -> str:
    """One leaf that is not right in one line."""
    right = "?" if found["right"] is None else tuple(found["right"])
    return (
        f"{found['by']} {found['verdict']}: {found['leaf']} {tuple(found['shape'])}: came "
        f"{tuple(found['came'])} ({found['reason'][:110]}), right {right} [{found['owner']}]"
    )

"""Tables in Markdown."""


def markdown(header: list[str], rows: list[list[str]], left: int) -> str:
    """A table whose first `left` columns are words."""
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

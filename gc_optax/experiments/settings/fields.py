"""The fields of `Config`: what each setting is, may be, and is called on the command line."""

import dataclasses
from collections.abc import Callable, Collection, Hashable
from typing import Any

from gc_optax.experiments.errors import InvalidSettingError

LARGEST_COUNT = 2**31 - 1


def setting(
    default: Any,
    group: str,
    help: str,
    *,
    metavar: str = "NAME",
    parse: Callable[[str], Any] = str,
    choices: Collection[str] | None = None,
    instead: str | None = None,
) -> Any:
    """A field of `Config`, of which the command line makes an option.

    Args:
        default: Its default.
        group: Under which heading its option stands.
        help: What it is; `{names}` stands for the choices.
        metavar: What stands for its value.
        parse: From text to its value, or to each of its values.
        choices: The values that there are.
        instead: What the default is said to be; by default, `default` itself.
    """
    names = ", ".join(choices) if choices is not None else ""
    shown = " ".join(default) if isinstance(default, tuple) else default
    said = "" if instead == "" else f" (default: {shown if instead is None else instead})"
    metadata = {
        "group": group,
        "help": help.replace("{names}", names) + said,
        "metavar": metavar,
        "parse": parse,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)


def count(default: int | None, group: str, help: str, *, instead: str | None = None) -> Any:
    """A whole number of at least 1."""
    return setting(default, group, help, metavar="N", parse=int, instead=instead)


def check_choice(name: str, value: Any, choices: Collection[str]):
    for one in value if isinstance(value, tuple) else (value,):
        if one is not None and one not in choices:
            raise InvalidSettingError(name, f"must be one of {', '.join(choices)}; got {one}.")


def check_count(name: str, value: int | None, least: int = 1):
    if value is not None and not (isinstance(value, int) and value >= least):
        raise InvalidSettingError(name, f"must be a whole number of at least 1, got {value}.")
    if value is not None and value > LARGEST_COUNT:
        raise InvalidSettingError(name, f"must be at most {LARGEST_COUNT}, got {value}.")


def check_distinct(name: str, values: tuple[Hashable, ...]):
    if not values:
        raise InvalidSettingError(name, "must have at least one value.")
    for value in values:
        if values.count(value) > 1:
            raise InvalidSettingError(name, f"has {value} more than once.")

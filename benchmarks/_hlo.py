"""Reads compiled XLA programs: kernels, bytes to and from device memory, collectives.

What counts are the instructions that run one after the other: those of the entry computation, and
of the bodies of its loops as often as they run. A fusion is one kernel; what is inside of it stays
in registers. Each kernel reads its operands and writes its results, if they lie in device memory:
a TPU's compiler also keeps arrays in the vector memory of the core, memory space 1 or higher, and
moves them there and back by copies that count as what they move.
"""

import collections
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

BITS = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 8),
    **dict.fromkeys(("bf16", "f16", "s16", "u16"), 16),
    **dict.fromkeys(("f32", "s32", "u32"), 32),
    **dict.fromkeys(("f64", "s64", "u64", "c64"), 64),
    **dict.fromkeys(("s4", "u4"), 4),
    "token": 0,
}
ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
OPCODE = re.compile(r"\s*([\w-]+)\(")
BODY = re.compile(r"body=%?([\w.-]+)")
CALLED = re.compile(r"(?:calls|to_apply|called_computations?)=\{?%?([\w.-]+)")
TRIPS = re.compile(r'known_trip_count"?:\{"?n"?:"(\d+)"')

# These compute and move nothing.
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier"),
    *("after-all", "add-dependency", "partition-id", "replica-id"),
}
COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all"),
    *("collective-permute", "collective-broadcast"),
)


class Array(NamedTuple):
    """The type of an array in a program."""

    dtype: str
    shape: tuple[int, ...]
    on_chip: bool

    @property
    def bytes(self) -> float:
        return BITS[self.dtype] * math.prod(self.shape) / 8


class Instruction(NamedTuple):
    """One line of a program."""

    name: str
    opcode: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    nested: bool  # of what starts something: whether its results come behind a tuple of operands


class Program:
    """A compiled program.

    Args:
        text: What `Compiled.as_text()` gives.
        trips: How often loops run whose text does not say so; on a TPU none does.
    """

    def __init__(self, text: str, trips: int = 1):
        self._trips = trips
        self._computations: dict[str, list[Instruction]] = {}
        current: list[Instruction] = []
        for line in text.splitlines():
            if head := COMPUTATION.match(line):
                current = self._computations.setdefault(head[2], [])
                if head[1]:
                    self._entry = head[2]
            elif match := INSTRUCTION.match(line):
                current.append(_instruction(match[1], match[2]))

    def executed(self) -> Iterator[tuple[Instruction, dict[str, Instruction], int]]:
        """What runs: an instruction, those beside it by name, and how often it runs."""
        yield from self._executed(self._entry, 1)

    def _executed(self, computation: str, times: int):
        beside = {each.name: each for each in self._computations[computation]}
        for each in beside.values():
            if each.opcode == "while":
                found = TRIPS.search(each.attributes)
                trips = int(found[1]) if found else self._trips
                body = BODY.search(each.attributes)
                assert body, each
                yield from self._executed(body[1], times * trips)
            elif each.opcode == "call":
                called = CALLED.search(each.attributes)
                assert called, each
                yield from self._executed(called[1], times)
            else:
                yield each, beside, times

    def kernels(self) -> int:
        """How many times the device is given something to compute."""
        return sum(times for each, _, times in self.executed() if _is_kernel(each))

    def moved(self) -> float:
        """Bytes read from and written to device memory."""
        total = 0.0
        for each, beside, times in self.executed():
            total += times * _moved(each, beside)
        return total

    def collectives(self) -> dict[str, list[float]]:
        """By kind: how many run, and the bytes of their results together."""
        found: collections.defaultdict[str, list[float]] = collections.defaultdict(lambda: [0, 0.0])
        for each, _, times in self.executed():
            for one in self._with_inner(each):
                kind = one.opcode.removesuffix("-start")
                if kind in COLLECTIVES and not one.opcode.endswith("-done"):
                    results = one.results
                    is_flat = one.opcode.endswith("-start") and not one.nested
                    if is_flat and kind != "all-reduce":
                        results = results[len(results) // 2 :]  # behind the operands
                    found[kind][0] += times
                    found[kind][1] += times * sum(array.bytes for array in results)
        return dict(found)

    def _with_inner(self, each: Instruction) -> list[Instruction]:
        """The instruction, or what is inside of it, if it is a wrapper."""
        called = CALLED.search(each.attributes)
        if called and each.opcode in ("fusion", "async-start"):
            return self._computations[called[1]]
        return [each]


def _instruction(name: str, text: str) -> Instruction:
    text = re.sub(r"/\*.*?\*/", "", text)
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opcode = OPCODE.match(text, end)
    assert opcode, text
    close = _closing(text, opcode.end() - 1)
    operands = re.findall(r"%([\w.-]+)", text[opcode.end() : close])
    nested = text.startswith("((") and opcode[1].endswith("-start")
    results = _arrays(text[_closing(text, 1) : end] if nested else text[:end])
    return Instruction(name, opcode[1], results, tuple(operands), text[close + 1 :], nested)


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` closes."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise ValueError(f"A parenthesis does not close in {text!r}.")


def _arrays(text: str) -> tuple[Array, ...]:
    found = []
    for dtype, sizes, layout in ARRAY.findall(text):
        space = re.search(r"S\((\d+)\)", layout)
        shape = tuple(int(size) for size in sizes.split(",") if size)
        found.append(Array(dtype, shape, on_chip=space is not None and space[1] not in "05"))
    return tuple(found)


def _is_kernel(each: Instruction) -> bool:
    return (
        each.opcode not in FREE
        and not each.opcode.endswith("-done")
        and each.opcode not in ("copy-start", "slice-start")
        and 'custom_call_target="ConcatBitcast"' not in each.attributes
    )


def _moved(each: Instruction, beside: dict[str, Instruction]) -> float:
    if each.opcode in FREE or each.opcode.endswith("-done"):
        return 0.0
    if each.opcode == "copy-start":  # (destination, source, context)
        return _off_chip(each.results[:2])
    if each.opcode in ("slice-start", "async-start"):  # ((operands), destination, context)
        destination = each.results[0]
        return destination.bytes + _off_chip([destination])  # as much is read as is taken out
    read = [array for name in each.operands if name in beside for array in beside[name].results]
    return _off_chip(read) + _off_chip(each.results)


def _off_chip(arrays) -> float:
    return sum(array.bytes for array in arrays if not array.on_chip)

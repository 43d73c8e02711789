"""Reads compiled XLA programs: kernels, bytes to and from device memory, collectives.

What counts are the instructions that run one after the other: those of the entry computation, and
of the bodies of its loops as often as they run. A fusion is one kernel; what is inside of it stays
in registers. Each kernel reads its operands and writes its results, if they lie in device memory:
a TPU's compiler also keeps arrays in the vector memory of the core, memory space 1 or higher, and
moves them there and back by copies that count as what they move. Of an array from which a kernel
takes a dynamic slice, or into which it puts one, only the slice counts.
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
INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.-]+) = (.*)$")
OPCODE = re.compile(r"\s*([\w-]+)\(")
BODY = re.compile(r"body=%?([\w.-]+)")
CONDITION = re.compile(r"condition=%?([\w.-]+)")
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
    arguments: str  # the names of its operands, or a constant, or the number of a parameter
    attributes: str
    nested: bool  # of what starts something: whether its results come behind a tuple of operands
    is_root: bool

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.-]+)", self.arguments)


class Program:
    """A compiled program.

    Args:
        text: What `Compiled.as_text()` gives.
    """

    def __init__(self, text: str):
        self._computations: dict[str, list[Instruction]] = {}
        current: list[Instruction] = []
        for line in text.splitlines():
            if head := COMPUTATION.match(line):
                current = self._computations.setdefault(head[2], [])
                if head[1]:
                    self._entry = head[2]
            elif match := INSTRUCTION.match(line):
                current.append(_instruction(match[2], match[3], is_root=bool(match[1])))

    def executed(self) -> Iterator[tuple[Instruction, dict[str, Instruction], int]]:
        """What runs: an instruction, those beside it by name, and how often it runs."""
        yield from self._executed(self._entry, 1)

    def _executed(self, computation: str, times: int):
        beside = {each.name: each for each in self._computations[computation]}
        for each in beside.values():
            if each.opcode == "while":
                body = BODY.search(each.attributes)
                assert body, each
                yield from self._executed(body[1], times * self._trips(each))
            elif each.opcode == "call":
                called = CALLED.search(each.attributes)
                assert called, each
                yield from self._executed(called[1], times)
            else:
                yield each, beside, times

    def _trips(self, loop: Instruction) -> int:
        """How often a loop runs: as it says, or up to the one number in its condition."""
        if found := TRIPS.search(loop.attributes):
            return int(found[1])
        condition = CONDITION.search(loop.attributes)
        assert condition, loop
        instructions = self._computations[condition[1]]
        bounds = [
            int(each.arguments)
            for each in instructions
            if each.opcode == "constant" and each.arguments.isdigit()
        ]
        compared = [each for each in instructions if each.opcode == "compare"]
        if len(bounds) != 1 or ["direction=LT" in each.attributes for each in compared] != [True]:
            raise ValueError(f"How often the loop {loop.name} runs cannot be read.")
        return bounds[0]

    def kernels(self) -> int:
        """How many times the device is given something to compute."""
        return sum(times for each, _, times in self.executed() if _is_kernel(each))

    def moved(self) -> float:
        """Bytes read from and written to device memory."""
        total = 0.0
        for each, beside, times in self.executed():
            total += times * self._moved(each, beside)
        return total

    def _moved(self, each: Instruction, beside: dict[str, Instruction]) -> float:
        if each.opcode in FREE or each.opcode.endswith("-done"):
            return 0.0
        if each.opcode == "copy-start":  # (destination, source, context)
            return _off_chip(each.results[:2])
        if each.opcode in ("slice-start", "async-start"):  # ((operands), destination, context)
            destination = each.results[0]
            return destination.bytes + _off_chip([destination])  # as much is read as is taken out
        inner, names, roots = [each], each.operands, [each.name]
        if each.opcode == "fusion":
            called = CALLED.search(each.attributes)
            assert called, each
            inner = self._computations[called[1]]
            inside = {int(one.arguments): one.name for one in inner if one.opcode == "parameter"}
            names = [inside[number] for number in range(len(each.operands))]
            (root,) = (one for one in inner if one.is_root)
            roots = root.operands if root.opcode == "tuple" else [root.name]
        total = 0.0
        for operand, name in zip(each.operands, names, strict=True):
            if operand in beside:
                total += _off_chip(beside[operand].results, _read(name, inner))
        if len(roots) != len(each.results):
            return total + _off_chip(each.results)
        for array, root in zip(each.results, roots, strict=True):
            total += _off_chip([array], _written(root, inner))
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
                    if kind == "collective-permute" and is_flat:
                        results = results[1:2]  # behind the operand, and before the context
                    elif is_flat and kind != "all-reduce":
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


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    text = re.sub(r"/\*.*?\*/", "", text)
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opcode = OPCODE.match(text, end)
    assert opcode, text
    close = _closing(text, opcode.end() - 1)
    arguments = text[opcode.end() : close]
    nested = text.startswith("((") and opcode[1].endswith("-start")
    results = _arrays(text[_closing(text, 1) : end] if nested else text[:end])
    return Instruction(name, opcode[1], results, arguments, text[close + 1 :], nested, is_root)


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


def _read(name: str, computation: list[Instruction]) -> float:
    """Bytes that are read of an array: of slices, or all."""
    total = 0.0
    for user in computation:
        if name in user.operands:
            if user.opcode == "bitcast":
                total += _read(user.name, computation)
            elif user.opcode == "dynamic-slice":
                total += user.results[0].bytes
            elif user.opcode != "dynamic-update-slice" or user.operands[0] != name:
                return math.inf
    return total


def _written(name: str, computation: list[Instruction]) -> float:
    """Bytes that are written of a result: those of a slice that is updated in place, or all."""
    by_name = {each.name: each for each in computation}
    each = by_name[name]
    if each.opcode == "bitcast" and each.operands[0] in by_name:
        return _written(each.operands[0], computation)
    if each.opcode != "dynamic-update-slice":
        return math.inf
    update = by_name.get(each.operands[1])
    return update.results[0].bytes if update else math.inf


def _off_chip(arrays, most: float = math.inf) -> float:
    """Bytes in device memory, of each array `most`."""
    return sum(min(array.bytes, most) for array in arrays if not array.on_chip)

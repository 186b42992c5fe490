"""The CUDA kernels' machine code, by NVIDIA's tools from PyPI, and the ways through it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from edgeunet.runtime.gpu.kernels.compile import FLAGS

INSTRUCTION_BYTES = 16
_REGISTER = re.compile(r"(?<!U)\bR(\d+)\b")
_WORDS = {"64": 2, "128": 4}


@dataclass(frozen=True)
class Instruction:
    """One instruction, such as `@!P0 LDG.E.64 R2,[R8.64]`."""

    predicate: str
    opcode: str
    operands: tuple[str, ...]

    @property
    def reads(self) -> set[int]:
        """Numbers of the registers that it names as sources: of pairs, only the first."""
        stores = self.opcode.startswith("ST")
        sources = self.operands if stores else self.operands[1:]
        names = " ".join(sources)
        if not stores and self.operands and self.operands[0].startswith("["):
            names += self.operands[0]
        return {int(number) for number in _REGISTER.findall(names)}

    @property
    def loaded(self) -> set[int]:
        """The registers that a load writes."""
        width = next((part for part in self.opcode.split(".") if part in _WORDS), "")
        first = int(_REGISTER.findall(self.operands[0])[0])
        return set(range(first, first + _WORDS.get(width, 1)))


@dataclass(frozen=True)
class Code:
    """One kernel."""

    name: str
    instructions: tuple[Instruction, ...]

    def using(self, *opcodes: str) -> list[int]:
        """Where instructions stand that begin with one of these, such as `LDG.E.64`."""
        return [
            index
            for index, instruction in enumerate(self.instructions)
            if instruction.opcode.startswith(opcodes)
        ]

    def next(self, index: int) -> Iterator[int]:
        """The instructions that may follow one. A call is followed by what stands behind it."""
        instruction = self.instructions[index]
        kind = instruction.opcode.split(".")[0]
        branches = kind == "BRA"
        if branches:
            yield int(instruction.operands[-1], 16) // INSTRUCTION_BYTES
        ends = branches or kind in ("EXIT", "RET")
        conditional = instruction.predicate or (branches and len(instruction.operands) > 1)
        if (not ends or conditional) and index + 1 < len(self.instructions):
            yield index + 1

    @cached_property
    def _starts(self) -> set[int]:
        """Where a block begins: at the start, where a branch leads, and behind each branch."""
        starts = {0}
        for index in self.using("BRA", "EXIT"):
            starts |= {index + 1, *self.next(index)}
        return starts

    def longest_way(self, without: str) -> list[int]:
        """The most instructions that a thread goes through, but for those of one opcode.

        Raises:
            ValueError: the kernel has a loop, or no way without the opcode.
        """
        longest: dict[int, list[int]] = {}  # from an instruction to an EXIT
        for index in reversed(range(len(self.instructions))):
            following = list(self.next(index))
            if any(target < index for target in following):
                raise ValueError(f"{self.name} has a loop at instruction {index}")
            ways = [longest[target] for target in following if target in longest]
            opcode = self.instructions[index].opcode
            if opcode != without and (ways or opcode == "EXIT"):
                longest[index] = [index, *max(ways, key=len, default=[])]
        if 0 not in longest:
            raise ValueError(f"{self.name} has no way without {without}")
        return longest[0]

    def groups(self, opcode: str) -> list[list[int]]:
        """Loads that are issued one after the other, before what any of them loads is read."""
        groups: list[list[int]] = []
        pending: set[int] = set()
        for index, instruction in enumerate(self.instructions):
            if index in self._starts or pending & instruction.reads:
                pending = set()
            if instruction.opcode.startswith(opcode):
                if not pending:
                    groups.append([])
                groups[-1].append(index)
                pending |= instruction.loaded
        return groups

    def most_groups_in_flight(self, opcode: str) -> int:
        """How many groups are on their way, at most, when what one has loaded is first read."""
        groups = {
            index: number for number, group in enumerate(self.groups(opcode)) for index in group
        }
        registers = {index: self.instructions[index].loaded for index in groups}
        most = 0
        reached: set[tuple[int, frozenset[int]]] = set()
        todo = [(0, frozenset[int]())]
        while todo:
            state = todo.pop()
            if state in reached:
                continue
            reached.add(state)
            index, flying = state
            reads = self.instructions[index].reads
            used = {groups[load] for load in flying if registers[load] & reads}
            if used:
                most = max(most, len({groups[load] for load in flying}))
                flying = frozenset(load for load in flying if groups[load] not in used)
            if index in groups:
                flying |= {index}
            todo += [(target, flying) for target in self.next(index)]
        return most


def find_tool(name: str) -> str:
    """A tool of the wheels nvidia-cuda-*; skips where it is missing."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        if found := shutil.which(name, path=str(Path(folder) / "cu13/bin")):
            return found
    pytest.skip(f"no {name} from PyPI. Install nvidia-cuda-{name}, as the extra `dev` does.")


def compile_for(architecture: str, source: Path, folder: Path) -> Path:
    """The cubin of a source for an architecture, such as `sm_87`."""
    nvcc = find_tool("nvcc")
    if shutil.which("g++") is None:
        pytest.skip("no g++, which nvcc runs first")
    cubin = folder / f"{architecture}.cubin"
    run(nvcc, *FLAGS, f"-arch={architecture}", "-o", str(cubin), str(source))
    return cubin


def read_codes(cubin: Path) -> dict[str, Code]:
    """The kernels in a cubin, by name."""
    listing = run(find_tool("nvdisasm"), "--emit-json", "--print-code", str(cubin))
    _, functions = json.loads(listing)
    return {
        function["function-name"]: Code(
            function["function-name"],
            tuple(
                Instruction(
                    instruction.get("predicate", ""),
                    instruction["opcode"],
                    tuple(instruction.get("operands", "").split(",")),
                )
                for instruction in function["sass-instructions"]
            ),
        )
        for function in functions
    }


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
    return done.stdout

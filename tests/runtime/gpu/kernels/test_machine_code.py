"""The kernels' machine code, read: what is in flight, what spills, how much a pixel costs.

No GPU is needed, and none of this says how fast one is.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeunet.runtime.gpu.kernels.compile import SOURCES
from support.machine_code import Code, Instruction, compile_for, find_tool, read_codes, run

ARCHITECTURES = ["sm_87", "sm_90"]  # Jetson Orin, H100
ROWS, AHEAD, QUAD = 2, 2, 4  # as in the sources
LOADS = {"float16": "LDG.E.64", "float32": "LDG.E.128"}
STORES = {"float16": "STG.E.64", "float32": "STG.E.128"}
SINGLE_STORES = {"float16": "STG.E.U16", "float32": "STG.E"}
MOST_INSTRUCTIONS = 120
"""For one pixel of a frame of bytes: 48 are its loads, conversions and arithmetic."""
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
every_type = pytest.mark.parametrize("dtype", ["float16", "float32"])


@pytest.fixture(scope="module")
def cubins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cubins")
    with ThreadPoolExecutor() as pool:
        made = pool.map(lambda name: compile_for(name, SOURCES[0], folder), ARCHITECTURES)
        return dict(zip(ARCHITECTURES, made, strict=True))


@pytest.fixture(scope="module")
def codes(cubins: dict[str, Path]) -> dict[str, dict[str, Code]]:
    return {name: read_codes(cubin) for name, cubin in cubins.items()}


def test_sources_are_all_in_the_folder() -> None:
    """Their hash tells a cubin that is outdated."""
    folder = SOURCES[0].parent
    assert sorted(SOURCES) == sorted([*folder.glob("*.cu"), *folder.glob("*.cuh")])


@every_architecture
def test_nothing_spills(
    codes: dict[str, dict[str, Code]], cubins: dict[str, Path], architecture: str
) -> None:
    kernels = codes[architecture]
    assert {name: code.using("LDL", "STL") for name, code in kernels.items()} == {
        name: [] for name in kernels
    }
    usage = run(find_tool("cuobjdump"), "--dump-resource-usage", str(cubins[architecture]))
    found = re.findall(r"Function (\w+):\s+REG:\d+ STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert sorted(found) == sorted((name, "0", "0") for name in kernels)


@every_architecture
@every_type
@pytest.mark.parametrize("kernel", ["postprocess", "postprocess_confidence"])
def test_logits_of_two_rows_and_two_classes_are_loaded_before_one_is_read(
    codes: dict[str, dict[str, Code]], architecture: str, dtype: str, kernel: str
) -> None:
    code = codes[architecture][f"{kernel}_{dtype}"]
    groups = code.groups(LOADS[dtype])
    assert groups
    assert min(map(len, groups)) >= ROWS, groups
    assert code.most_groups_in_flight(LOADS[dtype]) == AHEAD


@every_architecture
@every_type
def test_a_pixel_of_a_frame_costs_few_instructions(
    codes: dict[str, dict[str, Code]], architecture: str, dtype: str
) -> None:
    code = codes[architecture][f"preprocess_{dtype}"]
    way = code.longest_way(without=SINGLE_STORES[dtype])
    planes = [at for at in code.using(STORES[dtype]) if at in way]
    assert len(planes) == 3, "one wide store for each colour"
    assert len(way) <= MOST_INSTRUCTIONS * QUAD, len(way) / QUAD
    divisions = code.using("MUFU.RCP", "F2I", "I2F.", "CALL")
    assert divisions == [], [code.instructions[at] for at in divisions]


# How code is read


def lines(*texts: str) -> Code:
    """Code such as `@P0 BRA 0x10`."""
    instructions = []
    for text in texts:
        predicate, opcode, operands = re.fullmatch(r"(@\S+ )?(\S+) ?(\S*)", text).groups()  # type: ignore[union-attr]
        instructions.append(
            Instruction((predicate or "").strip(), opcode, tuple(operands.split(",")))
        )
    return Code("kernel", tuple(instructions))


def test_loads_end_a_group_where_one_is_read() -> None:
    both = lines("LDG.E.64 R2,[R8.64]", "LDG.E.64 R4,[R8.64+0x8]", "PRMT R6,R3,R5,R0", "EXIT")
    assert both.groups("LDG.E.64") == [[0, 1]]
    waits = lines("LDG.E.64 R2,[R8.64]", "PRMT R6,R3,R5,R0", "LDG.E.64 R4,[R8.64+0x8]", "EXIT")
    assert waits.groups("LDG.E.64") == [[0], [2]]
    stored = lines("LDG.E.64 R2,[R8.64]", "STG.E [R8.64],R2", "LDG.E.64 R4,[R8.64]", "EXIT")
    assert stored.groups("LDG.E.64") == [[0], [2]]
    apart = lines("LDG.E.64 R2,[R8.64]", "@P0 BRA 0x30", "LDG.E.64 R4,[R8.64]", "EXIT")
    assert apart.groups("LDG.E.64") == [[0], [2]]


def test_groups_in_flight_are_those_of_the_best_way() -> None:
    loop = lines(
        "LDG.E.64 R2,[R8.64]",
        "@P0 BRA 0x30",
        "LDG.E.64 R4,[R8.64]",
        "MOV R6,R2",
        "@P1 BRA 0x0",
        "EXIT",
    )
    assert loop.most_groups_in_flight("LDG.E.64") == 2
    assert lines("LDG.E.64 R2,[R8.64]", "MOV R6,R2", "EXIT").most_groups_in_flight("LDG.E.64") == 1


def test_longest_way_leaves_out_an_opcode_and_loops() -> None:
    code = lines(
        "@P0 BRA 0x30", "STG.E [R2.64],R4", "STG.E [R2.64],R4", "STG.E.64 [R2.64],R4", "EXIT"
    )
    assert code.longest_way(without="LDG") == [0, 1, 2, 3, 4]
    assert code.longest_way(without="STG.E") == [0, 3, 4]
    with pytest.raises(ValueError, match=r"no way without STG\.E\.64"):
        code.longest_way(without="STG.E.64")
    with pytest.raises(ValueError, match="has a loop at instruction 1"):
        lines("MOV R2,R4", "@P0 BRA 0x0", "EXIT").longest_way(without="LDG")


def test_a_condition_may_be_an_operand_of_a_branch() -> None:
    assert list(lines("BRA P2,0x20", "NOP", "EXIT").next(0)) == [2, 1]
    assert list(lines("BRA 0x20", "NOP", "EXIT").next(0)) == [2]

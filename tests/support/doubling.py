"""A kernel of the simulated GPU."""

from __future__ import annotations

from support.simulated_gpu import Driver


class Doubling:
    """A kernel: doubles `count` bytes."""

    driver: Driver

    def launch(
        self, name: str, grid: object, block: object, arguments: object, stream: object
    ) -> None:
        assert name == "double"
        address, count = (int(argument) for argument in arguments)  # type: ignore[attr-defined]
        self.driver.memory.view(address, count)[:] *= 2

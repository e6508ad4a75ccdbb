"""The kinds of devices, in the order in which `devices: auto` looks for them, and what opens each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from sweep.slots import ascend, kunlun
from sweep.slots.provider import Provider


@dataclass(frozen=True)
class Vendor:
    """variable: what hides devices from a process. tools: one of them tells the numbers that a user may name.

    open: raises DeviceError that says why there is none.
    """

    kind: str
    variable: str
    tools: tuple[str, ...]
    open: Callable[[], Provider]

    @property
    def noun(self) -> str:
        return self.kind.upper()

    @property
    def example(self) -> str:
        """How space.yaml names two of them by their numbers."""
        return "`devices: [0, 1]`" if self.kind == "gpu" else f"`devices: {{kind: {self.kind}, ids: [0, 1]}}`"

    @property
    def likely(self) -> bool:
        """Whether it is worth a word that there is none. NVIDIA's library may be there without its tool."""
        return self.kind == "gpu" or any(map(shutil.which, self.tools))


def _nvidia() -> Provider:
    from sweep.slots.nvidia import Nvidia

    return Nvidia()


VENDORS = {
    vendor.kind: vendor
    for vendor in (
        Vendor("gpu", "CUDA_VISIBLE_DEVICES", ("nvidia-smi",), _nvidia),
        Vendor("npu", ascend.VISIBLE, (ascend.TOOL,), ascend.Ascend),
        Vendor("xpu", kunlun.VISIBLE, kunlun.TOOLS, kunlun.Kunlun),
    )
}

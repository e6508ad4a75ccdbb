"""NVIDIA's GPUs through NVML. The only importer of pynvml.

NVML numbers GPUs by their place on the PCI bus, CUDA (unless CUDA_DEVICE_ORDER says PCI_BUS_ID) by its guess of
their speed: devices are known, leased and pinned by UUID, and a number always means NVML's, as in nvidia-smi.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pynvml

from sweep.errors import DeviceError
from sweep.slots.provider import Device, Reading

_WORDS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no driver library, libnvidia-ml.so.1",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "driver not loaded",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to use the driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "driver and library are of different versions",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU is lost: it does not answer on the bus",
    pynvml.NVML_ERROR_UNINITIALIZED: "the driver was unloaded",
}
_HINTS = {
    pynvml.NVML_ERROR_NO_PERMISSION: "look at the rights of /dev/nvidia*, and at the devices of your container",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was updated under a running kernel: reboot",
}
_HINT = "`nvidia-smi` shows whether the driver works; `devices: cpu` does without a GPU"
# What one kind of GPU cannot tell, and an old driver has no function for.
_UNSAID = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
)
# After these NVML must be started again before any of its answers can be believed.
_DRIVER_GONE = (
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    pynvml.NVML_ERROR_UNKNOWN,
)
_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO in linux/proc_ns.h


class Nvidia:
    """left_out: GPUs that NVML counts but cannot name, in words."""

    def __init__(self) -> None:
        """Raises DeviceError that says why there is no GPU."""
        self._handles: dict[str, Any] = {}
        self._started = False
        self._pids = _pids_mean()
        self.left_out: list[str] = []
        try:
            self._start()
            self._devices = self._list()
        except pynvml.NVMLError as error:
            self.close()
            raise DeviceError(
                f"no GPU found (NVML: {_words(error)})", hint=_HINTS.get(error.value, _HINT)
            ) from None
        if not self._devices:
            self.close()
            why = "; ".join(self.left_out) or "the driver runs but finds none"
            raise DeviceError(f"no GPU found (NVML: {why})", hint=_HINT)

    def devices(self) -> list[Device]:
        return self._devices

    def measure(self, device: Device) -> Reading:
        try:
            handle = self._handle(device.id)
            memory = _memory(handle)
            numbers = {"memory_used": float(memory.used), "memory_total": float(memory.total)}
            if rates := _said(pynvml.nvmlDeviceGetUtilizationRates, handle):
                numbers["utilisation"] = rates.gpu / 100
            if (milliwatts := _said(pynvml.nvmlDeviceGetPowerUsage, handle)) is not None:
                numbers["power"] = milliwatts / 1000
            celsius = _said(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
            if celsius is not None:
                numbers["temperature"] = float(celsius)
            pids = self._pids
            if pids == "true":
                processes = _said(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
                return Reading(numbers, tuple(process.pid for process in processes))
            return Reading(numbers, None if pids == "hidden" else ())
        except pynvml.NVMLError as error:
            self._forget(device.id, error)
            return Reading(trouble=_words(error))

    def pin(self, device: Device) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": device.id}

    def close(self) -> None:
        self._handles.clear()
        if self._started:
            self._started = False
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _start(self) -> None:
        pynvml.nvmlInit()
        self._started = True

    def _list(self) -> list[Device]:
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
                memory = int(_memory(handle).total)
            except pynvml.NVMLError as error:
                self.left_out.append(f"GPU {index} is left out: {_words(error)}")
                continue
            self._handles[uuid] = handle
            found.append(Device(uuid, f"gpu-{uuid.removeprefix('GPU-')}", "gpu", index, name, memory))
        return found

    def _handle(self, uuid: str) -> Any:
        if not self._started:
            self._start()
        if uuid not in self._handles:
            self._handles[uuid] = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return self._handles[uuid]

    def _forget(self, uuid: str, error: pynvml.NVMLError) -> None:
        if error.value in _DRIVER_GONE:
            self.close()
        else:
            self._handles.pop(uuid, None)


def _memory(handle: Any) -> Any:
    # Version 1 counts what the driver keeps for itself as used: 900 MiB on an idle A100.
    memory = _said(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    return memory or pynvml.nvmlDeviceGetMemoryInfo(handle)


def _said(read: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or None where this GPU or this driver has none."""
    try:
        return read(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _UNSAID:
            return None
        raise


def _words(error: pynvml.NVMLError) -> str:
    return _WORDS.get(error.value) or str(error)


def _pids_mean() -> str:
    """What NVML's pids are worth: "true"; "hidden" in a container, where they are the host's; or "nothing".

    The driver knows nothing of pid namespaces: in one, it shows the host's numbers or no processes at all.
    """
    if str(Path("/proc/self/ns/pid").readlink()) == _FIRST_PID_NAMESPACE:
        return "true"
    # Under WSL no process is shown either, and the memory of the Windows desktop is in use on the same card.
    return "nothing" if "microsoft" in os.uname().release.lower() else "hidden"

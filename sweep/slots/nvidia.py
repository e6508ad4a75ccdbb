"""NVIDIA's GPUs through NVML. The only importer of pynvml.

A GPU whose MIG is on cannot be used as a whole: its instances are the devices, with the number of their GPU. CUDA
gives a process one of them at most, by the UUID that it is pinned with. Source: NVIDIA Multi-Instance GPU User
Guide, device enumeration and CUDA_VISIBLE_DEVICES.

NVML numbers GPUs by their place on the PCI bus, CUDA (unless CUDA_DEVICE_ORDER says PCI_BUS_ID) by its guess of
their speed: devices are known, leased and pinned by UUID, and a number always means NVML's, as in nvidia-smi.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ctypes import addressof
from typing import Any

import pynvml

from sweep.errors import DeviceError
from sweep.slots.foreign import pids_mean
from sweep.slots.provider import Device, Reading
from sweep.slots.xid import FAULTS

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
_GONE = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_NOT_FOUND)
_INSTANCE = "MIG-"
_EVENTS: int = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError
_DOUBLE_BIT = 48  # the Xid that means the same
_EVERY_INSTANCE = 0xFFFFFFFF
_MOST_EVENTS = 256  # of one look
_FARTHEST: int = pynvml.NVML_TOPOLOGY_SYSTEM


class Nvidia:
    """left_out: GPUs that NVML counts but cannot name, in words."""

    def __init__(self) -> None:
        """Raises DeviceError that says why there is no GPU."""
        self._handles: dict[str, Any] = {}
        self._alarm = _Alarm()
        self._started = False
        self._pids = pids_mean()
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
            if not device.id.startswith(_INSTANCE):  # of an instance NVML tells its memory alone
                numbers |= _pace(handle)
            fault = "" if device.id.startswith(_INSTANCE) else _fault(handle)
            pids = self._pids
            if pids == "true":
                processes = _said(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
                return Reading(numbers, tuple(process.pid for process in processes), fault=fault)
            return Reading(numbers, None if pids == "hidden" else (), fault=fault)
        except pynvml.NVMLError as error:
            self._forget(device.id, error)
            return Reading(trouble=_words(error), gone=error.value in _GONE)

    def befallen(self) -> dict[str, str]:
        return self._alarm.heard() if self._started else {}

    def apart(self, one: Device, other: Device) -> int:
        """0 over NVLink, else the level of what both hang from, from their board (0) to the whole system (50)."""
        try:
            handles = self._handle(one.id), self._handle(other.id)
            linked = _said(pynvml.nvmlDeviceGetP2PStatus, *handles, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
            if linked == pynvml.NVML_P2P_STATUS_OK:
                return 0
            level = _said(pynvml.nvmlDeviceGetTopologyCommonAncestor, *handles)
            return _FARTHEST if level is None else int(level)
        except pynvml.NVMLError:  # whoever measures it will say so
            return _FARTHEST

    def pin(self, device: Device) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": device.id}

    def close(self) -> None:
        self._alarm.hang_up()
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
                whole = pynvml.nvmlDeviceGetHandleByIndex(index)
                handles = _instances(whole)
                if handles == []:
                    self.left_out.append(f"GPU {index} is left out: its MIG is on, and it has no instance")
                parts = [self._device(handle, index) for handle in ([whole] if handles is None else handles)]
                self._alarm.watch(whole, parts)
                found += parts
            except pynvml.NVMLError as error:
                self.left_out.append(f"GPU {index} is left out: {_words(error)}")
        return found

    def _device(self, handle: Any, index: int) -> Device:
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        self._handles[uuid] = handle
        slot = f"gpu-{uuid.removeprefix('GPU-').replace('/', '-')}"  # old drivers: MIG-GPU-<uuid>/1/0
        name, memory = pynvml.nvmlDeviceGetName(handle), int(_memory(handle).total)
        return Device(uuid, slot, "gpu", index, name, memory)

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


class _Alarm:
    """What happens to GPUs, as NVML tells this process from its first question on.

    What came before, or while the driver was away, is never told. Source: NVML API reference, event handling.
    """

    def __init__(self) -> None:
        self._parts: dict[str, list[Device]] = {}  # by the UUID of the whole GPU
        self._events: Any = None
        self._wholes: dict[int, str] = {}  # address of the handle that events have -> UUID
        self._deaf = False

    def watch(self, whole: Any, parts: list[Device]) -> None:
        """parts: the GPU itself, or its instances."""
        self._parts[pynvml.nvmlDeviceGetUUID(whole)] = parts

    def heard(self) -> dict[str, str]:
        """See `Provider.befallen`."""
        found: dict[str, str] = {}
        if self._deaf:
            return found
        try:
            if self._events is None:
                self._listen()
            for _ in range(_MOST_EVENTS):
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
                xid = event.eventData if event.eventType == pynvml.nvmlEventTypeXidCriticalError else _DOUBLE_BIT
                if why := FAULTS.get(xid):
                    found |= dict.fromkeys(self._struck(event), f"{why} (Xid {xid})")
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_TIMEOUT:  # which is: nothing more has happened
                self._deaf = error.value in _UNSAID
                self.hang_up()
        return found

    def hang_up(self) -> None:
        if self._events is not None:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetFree(self._events)
        self._events = None
        self._wholes.clear()

    def _listen(self) -> None:
        self._events = pynvml.nvmlEventSetCreate()
        for uuid in self._parts:
            # one that is lost, or has no events, must not silence the others
            with suppress(pynvml.NVMLError):
                whole = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                known = pynvml.nvmlDeviceGetSupportedEventTypes(whole)
                pynvml.nvmlDeviceRegisterEvents(whole, _EVENTS & known, self._events)
                self._wholes[addressof(whole.contents)] = uuid

    def _struck(self, event: Any) -> list[str]:
        """The devices that it concerns: of a GPU that is cut, the instance that it names, or all."""
        if not event.device:
            return []
        uuid = self._wholes.get(addressof(event.device.contents)) or pynvml.nvmlDeviceGetUUID(event.device)
        parts = self._parts.get(uuid, [])
        named = event.gpuInstanceId
        return [part.id for part in parts if named == _EVERY_INSTANCE or _number(part) in (None, named)]


def _number(part: Device) -> int | None:
    """Of a GPU instance; None of a whole GPU, and where the driver tells none."""
    if not part.id.startswith(_INSTANCE):
        return None
    number = _said(pynvml.nvmlDeviceGetGpuInstanceId, pynvml.nvmlDeviceGetHandleByUUID(part.id))
    return None if number is None else int(number)


def _memory(handle: Any) -> Any:
    # Version 1 counts what the driver keeps for itself as used: 900 MiB on an idle A100.
    memory = _said(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    return memory or pynvml.nvmlDeviceGetMemoryInfo(handle)


def _pace(handle: Any) -> dict[str, float]:
    """How hard a whole GPU works, as far as it tells."""
    numbers = {}
    if rates := _said(pynvml.nvmlDeviceGetUtilizationRates, handle):
        numbers["utilisation"] = rates.gpu / 100
    if (milliwatts := _said(pynvml.nvmlDeviceGetPowerUsage, handle)) is not None:
        numbers["power"] = milliwatts / 1000
    celsius = _said(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    if celsius is not None:
        numbers["temperature"] = float(celsius)
    return numbers


def _fault(handle: Any) -> str:
    """What the memory of a whole GPU has suffered that only a reset, or nothing, mends.

    Source: NVML API reference, ECC errors, row remapping and page retirement; NVIDIA GPU Memory Error Management.
    """
    rows = _said(pynvml.nvmlDeviceGetRemappedRows, handle)  # correctable, uncorrectable, pending, failed
    if rows and rows[3]:
        return "a broken row of its memory could not be replaced"
    kind, counter = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    if errors := _said(pynvml.nvmlDeviceGetTotalEccErrors, handle, kind, counter):
        return f"uncorrected errors of its memory since it was reset: {errors}"
    if _said(pynvml.nvmlDeviceGetRetiredPagesPendingStatus, handle):
        return "broken pages of its memory wait for a reset to be retired"
    return ""


def _instances(whole: Any) -> list[Any] | None:
    """The MIG instances of a GPU; None where MIG is off."""
    mode = _said(pynvml.nvmlDeviceGetMigMode, whole)
    if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return None
    found = []
    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(whole)):
        with suppress(pynvml.NVMLError_NotFound):  # places need not be taken in a row
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, place))
    return found


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

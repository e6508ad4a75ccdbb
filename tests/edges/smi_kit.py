"""What vendors' tools print, shortened to a few devices, and a tool that prints it.

Captured elsewhere: npu-smi 25.5.1 on a 910B3, 25.2.3 on a 910C, 23.0.5 on a 310B, from bug reports and from the
vendor's manual; xpu-smi 5.0.21 on a P800, from Paddle's installation guide (its line of a process is after
nvidia-smi's); Intel's tool of the same name, from its tracker.
"""

from __future__ import annotations

import shlex
from pathlib import Path

PID = "2290156"
RULE = "+---------------------------+---------------+----------------------------------------------------+"
HEAD_910B = f"""{RULE}
| npu-smi 25.5.1                   Version: 25.5.1                                               |
{RULE}
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
"""
PROCESSES = f"""{RULE}
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
"""
NPU_910B = f"""{HEAD_910B}\
| 0     910B3               | OK            | 102.8       45                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3445 / 65536         |
+===========================+===============+====================================================+
| 5     910B3               | OK            | 100.8       44                0    / 0             |
| 0                         | 0000:02:00.0  | 12          0    / 0          60156/ 65536         |
+===========================+===============+====================================================+
{PROCESSES}\
| No running processes found in NPU 0                                                            |
+===========================+===============+====================================================+
| 5       0                 | 2290156       | VLLMEngineCore           | 56630                   |
+===========================+===============+====================================================+
"""
MAP_910B = """\
\tNPU ID                         Chip ID                        Chip Logic ID                  Chip Name
\t0                              0                              0                              Ascend 910B3
\t0                              1                              -                              Mcu
\t5                              0                              1                              Ascend 910B3
\t5                              1                              -                              Mcu
"""
NPU_910C = f"""\
{RULE}
| npu-smi 25.2.3                   Version: 25.2.3                                               |
{RULE}
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 2     Ascend910           | OK            | 175.3       52                0    / 0             |
| 0     4                   | 0000:95:00.0  | 0           0    / 0          3128 / 65536         |
+------------------------------------------------------------------------------------------------+
| 2     Ascend910           | OK            | -           52                0    / 0             |
| 1     5                   | 0000:97:00.0  | 17          0    / 0          52948/ 65536         |
+===========================+===============+====================================================+
{PROCESSES}\
| 2       1                 | 3328327       |                          | 50119                   |
+===========================+===============+====================================================+
"""
MAP_910C = """\
    NPU ID                  Chip ID                 Chip Logic ID           Chip Phy-ID             Chip Name
    2                       0                       0                       4                       Ascend910
    2                       1                       1                       5                       Ascend910
    2                       2                       -                       -                       Mcu
"""
NPU_310B = """\
+--------------------------------------------------------------------------------------------------------+
| npu-smi 23.0.5                                   Version: 23.0.5                                       |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 0       310B1                 | Alarm           | 0.0          49                15    / 15            |
| 0       0                     | 0000:11:00.0    | 0            600   / 7578                            |
+===============================+=================+======================================================+
| 1       310B1                 | Alarm           | 10.4         66                15    / 15            |
| 0       1                     | NA              | 3            957   / 10810                           |
+===============================+=================+======================================================+
"""
XPU_P800 = """\
Wed Jun 25 19:45:10 2025
+-----------------------------------------------------------------------------+
| XPU-SMI               Driver Version: 5.0.21.21    XPU-RT Version: 5.0.21   |
|-------------------------------+----------------------+----------------------+
| XPU  Name        Persistence-M| Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp  Perf  Pwr:Usage/Cap|         Memory-Usage | XPU-Util  Compute M. |
|                               |             L3-Usage |            SR-IOV M. |
|===============================+======================+======================|
|   0  P800 OAM           N/A   | 00000000:52:00.0 N/A |                    0 |
| N/A   43C  N/A     98W / 400W |    100MiB / 98304MiB |      0%      Default |
|                               |      0MiB /    96MiB |             Disabled |
+-------------------------------+----------------------+----------------------+
|   1  P800 OAM           N/A   | 00000000:AB:00.0 N/A |                    0 |
| N/A   37C  N/A     86W / 400W |  31058MiB / 98304MiB |     40%      Default |
|                               |      0MiB /    96MiB |             Disabled |
+-------------------------------+----------------------+----------------------+

+-----------------------------------------------------------------------------+
| Processes:                                                                  |
|  XPU   GI   CI        PID   Type   Process name                  XPU Memory |
|        ID   ID                                                   Usage      |
|=============================================================================|
|    1   N/A  N/A   2290156      C   python                          30958MiB |
+-----------------------------------------------------------------------------+
"""
XPU_INTEL = """\
+----------------------------------------------+----------------------------+------------------------+
|            Intel XPU-SMI v2.0    Driver: 96E1802BAF7F7118043A89B    Level Zero: 1.32.0             |
+----------------------------------------------+----------------------------+------------------------+
| GPU  Name                    Persistence-M   | Bus-Id            Disp.A   |   Volatile Uncorr. ECC |
+----------------------------------------------+----------------------------+------------------------+
"""


class Tools:
    """A folder for PATH: each tool in it prints what it was last told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, tool: str, *arguments: str, says: str = "", fails: str = "") -> None:
        """With these arguments it prints `says`, or complains with `fails`; with others it fails."""
        text = self.folder / ("-".join((tool, *arguments)) + ".txt")
        text.write_text(says)
        script = self.folder / tool
        lines = script.read_text().splitlines() if script.exists() else ["#!/bin/sh"]
        name, words = "-".join((tool, *arguments)), shlex.quote(" ".join(arguments))
        does = f"echo {shlex.quote(fails)} >&2; exit 7" if fails else f"exec cat {shlex.quote(str(text))}"
        kept = [line for line in lines if f"# {name}." not in line and "no such option" not in line]
        line = f'[ "$*" = {words} ] && {{ {does}; }} # {name}.'
        script.write_text("\n".join([*kept, line, 'echo "no such option" >&2; exit 1']) + "\n")
        script.chmod(0o755)

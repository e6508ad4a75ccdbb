"""Which of the driver's errors (Xids) say that a GPU itself has failed, and not what ran on it.

Those for which NVIDIA wants the GPU reset, the machine restarted, or the board looked at. All others end at most
the process that met with them (13, 31, 43, 45: illegal instructions, page faults, what a kill leaves behind), or
tell of something that was mended (63: a row of memory is replaced at the next reset). 94 ends one process only,
but it is the memory that is at fault; the GPU counts it, and is kept out of service for that count as well. 154,
that another recovery is due, may also say that none is any more. Sources: NVIDIA, Xid Errors, the catalog and its
resolution buckets; GPU Memory Error Management, Xids of A100 and later; Health Validation, Xid checks.
"""

from __future__ import annotations

FAULTS = {
    46: "it stopped processing",
    48: "an error of its memory could not be corrected",
    62: "its micro-controller halted",
    64: "that a row of its memory is broken could not be recorded",
    74: "its NVLink failed",
    79: "it fell off the bus",
    94: "an error of its memory could not be corrected, and ended one process",
    95: "an error of its memory could not be corrected, nor contained",
    119: "its system processor (GSP) does not answer",
    120: "its system processor (GSP) failed",
    136: "its NVLink could not be trained",
    140: "an error of its memory could not be corrected, nor recorded",
    143: "it could not be initialised",
}

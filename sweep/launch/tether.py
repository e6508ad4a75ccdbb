"""Runs one command for a process that may end at any moment: `tether.py LIFE STATUS COMMAND...`.

Rules
1.  LIFE is the reading end of a pipe. A byte in it, or its end because whoever holds the other side is gone, ends
    the command and every process below it: SIGTERM, and a little later SIGKILL.
2.  When the command has ended, what it has left running is ended too. So this process, and with it the leases that
    it was given, lives exactly as long as a process of the command.
3.  STATUS is the writing end of a pipe. It gets the command's wait status, unless the command was ended by rule 1.
4.  Killed itself, the command dies with it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import os
import select
import sys

from sweep.launch.process import become_subreaper, die_with_parent, end_descendants


def main() -> None:
    life, status = int(sys.argv[1]), int(sys.argv[2])
    become_subreaper()
    for handle in (life, status):
        os.set_inheritable(handle, False)
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        die_with_parent(parent)
        os.execv(sys.argv[3], sys.argv[3:])
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([life, ended], [], [])
    if ended in ready:
        os.write(status, str(os.waitpid(pid, 0)[1]).encode())
    end_descendants()

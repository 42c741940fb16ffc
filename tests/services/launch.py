"""Become COMMAND, bound to die with the process that started us.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL ACCOUNT COMMAND [ARGUMENT...]

ACCOUNT is a user name, or "" to stay who we are. A launcher between fork and exec, rather than `preexec_fn`:
that one runs Python in the fork of a multi-threaded process, which may deadlock.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def drop_to(account: str) -> None:
    user = pwd.getpwnam(account)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def die_with(parent_pid: int, death_signal: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the call above
        sys.exit("launch: the parent is gone")


def main() -> None:
    parent_pid, death_signal, account, *command = sys.argv[1:]
    if account:
        drop_to(account)
    die_with(int(parent_pid), int(death_signal))  # last: a change of user clears the death signal
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()

"""What a candidate's child may not ask of the kernel: a seccomp filter, compiled outside, installed inside.

The zygote has imported everything and mapped the workloads, so that a child only computes: it starts no
process, opens no socket and writes no file. The last matters twice: nothing fills up, and a candidate can
leave no note for a later process, not even in the time stamp of a folder.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import tempfile
from typing import Any

from kvolve import KvolveError
from sandbox.task import Profile


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DENIED: dict[str, tuple[str, ...]] = {
    "processes": _names(
        "fork vfork execve execveat kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open "
        "pidfd_getfd pidfd_send_signal setpriority ioprio_set sched_setaffinity sched_setscheduler "
        "sched_setattr sched_setparam kcmp process_madvise process_mrelease process_vm_readv "
        "process_vm_writev ptrace migrate_pages move_pages setns unshare setpgid setsid"
    ),
    "sockets": _names(
        "socket socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmsg "
        "recvmmsg"
    ),
    "files": _names(
        "creat mkdir mkdirat mknod mknodat link linkat symlink symlinkat rename renameat renameat2 unlink "
        "unlinkat rmdir truncate chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime "
        "utimes utimensat futimesat setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr "
        "fremovexattr flock name_to_handle_at open_by_handle_at"
    ),
    "shared memory": _names(
        "shmget shmat shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl mq_open mq_unlink "
        "memfd_create memfd_secret add_key request_key keyctl"
    ),
    "kernel": _names(
        "bpf perf_event_open io_uring_setup io_uring_enter io_uring_register userfaultfd kexec_load "
        "kexec_file_load init_module finit_module delete_module mount umount2 mount_setattr move_mount "
        "open_tree fsopen fsconfig fsmount fspick pivot_root chroot acct syslog reboot swapon swapoff "
        "quotactl quotactl_fd settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname "
        "personality ioperm iopl modify_ldt vhangup uselib lookup_dcookie nfsservctl fanotify_init "
        "fanotify_mark"
    ),
}

# What an evaluator may do beyond that, as a user's program: start processes and threads, and write files in
# its private /tmp, which is all that it can write to.
FREE_TO_EVALUATORS = frozenset(
    _names(
        "fork vfork execve execveat kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open "
        "pidfd_send_signal setpriority sched_setaffinity sched_setscheduler sched_setparam setpgid setsid "
        "socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg "
        "creat mkdir mkdirat link linkat symlink symlinkat rename renameat renameat2 unlink unlinkat rmdir "
        "truncate chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat "
        "futimesat flock"
    )
)
NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)  # CLONE_NEW*

# Their arguments lie in memory that a filter cannot read. ENOSYS makes the C library use the older call
# instead.
UNREADABLE = ("clone3", "openat2")

CLONE_THREAD = 0x10000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def _library() -> Any:
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError, TypeError) as error:
        raise KvolveError(
            f"The sandbox needs the system library libseccomp ({error}). Install it (libseccomp2 on Debian "
            "and Ubuntu), or pass --unsafe-sandbox to run candidates without isolation."
        ) from error
    return pyseccomp


def number(call: str) -> int:
    """The number of a system call here; negative where this machine, or libseccomp, does not know it."""
    pyseccomp = _library()
    return int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, call))


def compile_filter(profile: Profile = Profile.CANDIDATE) -> bytes:
    """The filter as the kernel's own program. Raises KvolveError when libseccomp is missing."""
    pyseccomp = _library()
    program = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    denied, absent = pyseccomp.ERRNO(errno.EPERM), pyseccomp.ERRNO(errno.ENOSYS)

    def deny(action: int, name: str, *conditions: object) -> None:
        if (known := number(name)) >= 0:
            program.add_rule(action, known, *conditions)

    evaluates = profile is not Profile.CANDIDATE
    free = FREE_TO_EVALUATORS | {"socket"} if evaluates else frozenset()
    for names in DENIED.values():
        for name in names:
            if name not in free:
                deny(denied, name)
    for name in UNREADABLE:
        deny(absent, name)
    deny(denied, "prlimit64", pyseccomp.Arg(0, pyseccomp.NE, 0))  # of another process
    if not evaluates:
        deny(denied, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, CLONE_THREAD, 0))
        for name, position in (("open", 1), ("openat", 2)):
            for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC):
                deny(denied, name, pyseccomp.Arg(position, pyseccomp.MASKED_EQ, flag, flag))
    else:
        for flag in NAMESPACES:
            deny(denied, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
        if profile is not Profile.ONLINE_EVALUATOR:
            deny(denied, "socket", pyseccomp.Arg(0, pyseccomp.NE, socket.AF_UNIX))
    with tempfile.TemporaryFile() as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


class Filter:
    """A compiled filter, ready to be installed in a child right after the fork."""

    def __init__(self, program: bytes) -> None:
        self._program = _Program(len(program) // 8, program)  # an instruction is eight bytes
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._prctl.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 4]

    def install(self) -> None:
        """Puts this process, for good, under the filter. Raises OSError when the kernel refuses."""
        pointer = ctypes.cast(ctypes.byref(self._program), ctypes.c_void_p)
        for arguments in (
            (PR_SET_NO_NEW_PRIVS, 1, None, None, None),
            (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, pointer, None, None),
        ):
            if self._prctl(*arguments):
                raise OSError(ctypes.get_errno(), "seccomp was refused")

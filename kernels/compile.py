"""Builds a Triton kernel for a GPU that need not be there, and reads from the binary what it takes."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

WARP_SIZE = 32
ALIGNED = ":16"


@dataclass(frozen=True)
class Resources:
    """What a kernel takes: registers and spilled bytes per thread, shared memory of one program."""

    registers: int
    spill_bytes: int
    shared_bytes: int


def compile_for(
    kernel: Any,
    signature: Mapping[str, str],
    constexprs: Mapping[str, int],
    capability: int,
    num_warps: int = 4,
) -> Resources:
    """Compiles a kernel for one compute capability and returns the resources that its binary states.

    Args:
        kernel: a function under `triton.jit` (not one that Triton interprets).
        signature: type of every run-time argument, as Triton writes it (`*fp16`, `i32`, `fp32`); `:16` at its
            end says that the value, or the address, is divisible by 16, which a launch finds out by itself.
        constexprs: value of every compile-time argument.
        capability: 80 for sm_80, 90 for sm_90.
        num_warps: warps per program, as in the launch.

    Raises:
        TypeError: the kernel is interpreted (TRITON_INTERPRET=1), so there is nothing to compile.
    """
    if not isinstance(kernel, triton.JITFunction):
        raise TypeError(
            f"expected a function under triton.jit, compiled and not interpreted; given {kernel!r}"
        )
    types = {name: kind.removesuffix(ALIGNED) for name, kind in signature.items()}
    aligned = [name for name, kind in signature.items() if kind.endswith(ALIGNED)]
    source = ASTSource(
        kernel,
        {name: types.get(name, "constexpr") for name in kernel.arg_names},
        constexprs=dict(constexprs),
        attrs={(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    target = GPUTarget("cuda", capability, WARP_SIZE)
    compiled = triton.compile(
        source, target=target, options={"num_warps": num_warps, "enable_fp_fusion": True}
    )
    usage = stated_usage(compiled.asm["cubin"])
    # Triton asks for shared memory at launch; what an sm_90 binary states is 1 KiB that CUDA itself reserves.
    return Resources(usage["REG"], usage["STACK"] + usage["LOCAL"], compiled.metadata.shared)


def stated_usage(binary: bytes) -> dict[str, int]:
    """Reads the figures (REG, STACK, SHARED, LOCAL, ...) that a cubin with one kernel states of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(path)]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(figure) for name, figure in re.findall(r"(\w+):(\d+)", report)}

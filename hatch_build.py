"""Compiles the kernel of the collector into the package, where a C compiler and Python's headers are.

Where they are not, the package is built without it and reads pages by pyarrow. HATCH_BUILD_NO_HOOKS=true leaves
it out. `python hatch_build.py [FLAG ...]` compiles it in place, with more flags for the compiler.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script
    BuildHookInterface = object  # type: ignore[assignment, misc]

FOLDER = Path(__file__).resolve().parent / "collector" / "native"
BUILT = FOLDER / "_kernel.abi3.so"
FLAGS = ("-std=c11", "-O2", "-g0", "-fPIC", "-shared", "-fvisibility=hidden", "-DPy_LIMITED_API=0x030B0000")


def compile_kernel(more: tuple[str, ...] = ()) -> str | None:
    """Compile in place. Why it could not be done; then a kernel that was there is taken away, as it may be old."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = Path(sysconfig.get_paths()["include"])
    problem = None
    if shutil.which(compiler[0]) is None:
        problem = f"there is no C compiler {compiler[0]!r}"
    elif not (include / "Python.h").exists():
        problem = f"there is no Python.h in {include}"
    else:
        made = BUILT.with_name(f"{BUILT.name}.{os.getpid()}")
        command = [*compiler, *FLAGS, *more, f"-I{include}", str(FOLDER / "kernel.c"), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            made.replace(BUILT)  # whoever runs the old one keeps it
        else:
            problem = f"{shlex.join(command)}: {done.stderr.strip()[-2000:]}"
            made.unlink(missing_ok=True)
    if problem is not None:
        BUILT.unlink(missing_ok=True)
    return problem


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg, misc, unused-ignore]
    """Puts the kernel into wheels; what can't be compiled stops no installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version
        problem = compile_kernel()
        if problem is not None:
            self.app.display_warning(f"byoc is built without its compiled kernel: {problem}")
            return
        build_data["artifacts"].append(f"/{BUILT.relative_to(FOLDER.parents[1])}")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"


if __name__ == "__main__":
    why = compile_kernel(tuple(sys.argv[1:]))
    sys.exit(f"no kernel: {why}" if why else 0)

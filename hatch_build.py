"""Compiles the kernels of collector, gateway and lake into the package, where a C compiler and Python.h are.

Where they are not, the package is built without them, and pyarrow and numpy do the same more slowly.
HATCH_BUILD_NO_HOOKS=true leaves them out. `python hatch_build.py [FLAG ...]` compiles them in place, with flags
for the compiler besides.
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

ROOT = Path(__file__).resolve().parent
FOLDERS = tuple(ROOT / name / "native" for name in ("collector", "metering/gateway", "metering/lake"))
BUILT = "_kernel.abi3.so"
FLAGS = ("-std=c11", "-O2", "-g0", "-fPIC", "-shared", "-fvisibility=hidden", "-DPy_LIMITED_API=0x030B0000")


def compile_kernels(more: tuple[str, ...] = ()) -> str | None:
    """Compile in place. Why it could not be done; then a kernel that was there is taken away, as it may be old."""
    problems = [_compile(folder, more) for folder in FOLDERS]
    return next(filter(None, problems), None)


def _compile(folder: Path, more: tuple[str, ...]) -> str | None:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = Path(sysconfig.get_paths()["include"])
    built = folder / BUILT
    problem = None
    if shutil.which(compiler[0]) is None:
        problem = f"there is no C compiler {compiler[0]!r}"
    elif not (include / "Python.h").exists():
        problem = f"there is no Python.h in {include}"
    else:
        made = built.with_name(f"{built.name}.{os.getpid()}")
        command = [*compiler, *FLAGS, *more, f"-I{include}", str(folder / "kernel.c"), "-o", str(made), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            made.replace(built)  # whoever runs the old one keeps it
        else:
            problem = f"{shlex.join(command)}: {done.stderr.strip()[-2000:]}"
            made.unlink(missing_ok=True)
    if problem is not None:
        built.unlink(missing_ok=True)
    return problem


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg, misc, unused-ignore]
    """Puts the kernels into wheels; what can't be compiled stops no installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version
        problem = compile_kernels()
        if problem is not None:
            self.app.display_warning(f"byoc is built without a compiled kernel: {problem}")
        built = [folder / BUILT for folder in FOLDERS if (folder / BUILT).exists()]
        if not built:
            return
        build_data["artifacts"].extend(f"/{path.relative_to(ROOT)}" for path in built)
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"


if __name__ == "__main__":
    why = compile_kernels(tuple(sys.argv[1:]))
    sys.exit(f"no kernel: {why}" if why else 0)

"""The build of a prefix from a spec or a lock."""

from envpack.build.backends import BACKENDS, Backend, choose_backend
from envpack.build.build import BuildResult, build_prefix, linking_below
from envpack.build.bytecode import SOURCE_MTIME, CompileResult, compile_prefix
from envpack.build.location import PREFIX_LENGTH, choose_prefix

__all__ = [
    "BACKENDS",
    "PREFIX_LENGTH",
    "SOURCE_MTIME",
    "Backend",
    "BuildResult",
    "CompileResult",
    "build_prefix",
    "choose_backend",
    "choose_prefix",
    "compile_prefix",
    "linking_below",
]

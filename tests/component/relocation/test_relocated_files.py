"""Files of every kind that hold the prefix, made by the tools that make them, and read by those that read them.

None of them belongs to a package: they are what people compile, install and write into an environment themselves.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest

from envpack.runtime.errors import PackError
from envpack.runtime.report import Reporter
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from support.compilers import compile_c, compiler
from support.sample_deployments import deployed
from support.small_prefix import SmallPrefix

SITE = "lib/python3.11/site-packages"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

LIBRARY = 'const char *where(void) { return PREFIX "/share/data"; }\n'
PROGRAM = """
#include <stdio.h>
const char *where(void);
int main(void) {
    puts(where());
    puts(PREFIX "/lib:" PREFIX "/lib64:" PREFIX);  /* several in one string */
    puts(PREFIX "/share/tail-of-a-path");
    puts("share/tail-of-a-path");                  /* which the linker lets end where the one before ends */
    puts("before " PREFIX);
    puts(PREFIX);
    return 0;
}
"""


def need(program: str) -> str:
    """Return the path of a program, or skip the test. CI has all of them."""
    found = shutil.which(program, path=f"{Path(sys.executable).parent}:/usr/bin:/bin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: object, **environment: object) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**ENVIRONMENT, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallPrefix:
    made = SmallPrefix(tmp_path_factory.mktemp("e") / ("made-" + "in-a-long-place-" * 8))
    for fill in (compiled, texts, python_files):
        fill(made)
    return made


def compiled(made: SmallPrefix) -> None:
    """By a real compiler and a real linker, with both kinds of search path."""
    prefix = made.path
    made.write("src/library.c", LIBRARY)
    made.write("src/program.c", PROGRAM)
    define = f'-DPREFIX="{prefix}"'
    (prefix / "lib").mkdir()
    (prefix / "bin").mkdir()
    flags = ["-Os", define, "-Wl,-O2"]  # -Os: strings are not aligned, and can share their ends
    compile_c(*flags, "-shared", "-fPIC", prefix / "src/library.c", "-o", prefix / "lib/libwhere.so")
    for name, tags in (("rpath", "--disable-new-dtags"), ("runpath", "--enable-new-dtags")):
        link = [f"-L{prefix}/lib", "-lwhere", f"-Wl,-rpath,{prefix}/lib:{prefix}/lib64", f"-Wl,{tags}"]
        compile_c(*flags, prefix / "src/program.c", "-o", prefix / f"bin/{name}", *link)
    if "ziglang" in compiler():  # its linker writes RUNPATH only
        run(need("patchelf"), "--force-rpath", "--set-rpath", f"{prefix}/lib:{prefix}/lib64", prefix / "bin/rpath")
    shutil.copy(prefix / "bin/runpath", prefix / "bin/patched")
    run(need("patchelf"), "--set-rpath", f"{prefix}/lib:$ORIGIN/../lib", prefix / "bin/patched")
    shutil.rmtree(prefix / "src")


def texts(made: SmallPrefix) -> None:
    prefix = made.path
    made.write(
        "lib/pkgconfig/where.pc",
        f"prefix={prefix}\nlibdir=${{prefix}}/lib\nName: where\nDescription: x\nVersion: 1\n"
        f"Libs: -L${{libdir}} -lwhere\nCflags: -I{prefix}/include\n",
    )
    made.write(
        "lib/cmake/Where/WhereConfig.cmake",
        f'set(WHERE_DIR "{prefix}/include")\nset(WHERE_LIBS "{prefix}/lib/libwhere.so;{prefix}/lib/liba.a")\n',
    )
    made.write(
        "lib/libwhere.la", f"dlname='libwhere.so'\ndependency_libs=' -L{prefix}/lib -lm'\nlibdir='{prefix}/lib'\n"
    )
    made.write("bin/where-config", f'#!/bin/sh\nprefix="{prefix}"\necho "$prefix" "-I{prefix}/include"\n', 0o755)
    made.write(
        "etc/conda/activate.d/where.sh", f'export WHERE_HOME="{prefix}/share" WHERE_URL="file://{prefix}/x"\n'
    )
    made.write("etc/latin-1.conf", f"# café\nhome = {prefix}/lib\n".encode("latin-1"))
    made.write("etc/bom.conf", f"\ufeff{prefix}/lib\n")
    made.write("etc/crlf.ini", f"[where]\r\nhome={prefix}\r\nlib={prefix}\\lib\r\n")
    made.write("etc/escaped.json", json.dumps({"home": f"{prefix}/share"}).replace("/", "\\/"))
    made.write(
        "etc/urls.txt",
        f"http://localhost/?home={quote(str(prefix), safe='')}&lib=file://{quote(str(prefix))}/lib\n",
    )
    made.link("share/absolute", prefix / "etc")
    made.link("share/to-a-file", prefix / "etc/latin-1.conf")


def python_files(made: SmallPrefix) -> None:
    prefix = made.path
    argv = [f"{prefix}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    made.write(
        "share/jupyter/kernels/where/kernel.json", json.dumps({"argv": argv, "env": {"HOME_OF": str(prefix)}})
    )
    made.write(f"{SITE}/where.pth", f"{prefix}/share/python\n")
    made.write("share/python/found.py", "x = 1\n")
    made.write(
        f"{SITE}/where-1.dist-info/direct_url.json",
        json.dumps({"url": prefix.as_uri() + "/src/where", "dir_info": {}}),
    )
    made.write(f"{SITE}/where-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: where\nVersion: 1\n")
    made.write(f"{SITE}/where-1.dist-info/RECORD", "")


PLACES = {"short": "s", "blanks": "a place with blanks", "moved": "moved"}


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, made: SmallPrefix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment in another place: deployed there, or deployed elsewhere and moved."""
    root: Path = tmp_path_factory.mktemp("d") / PLACES[request.param]
    made.pack(root.parent / "b.tar.zst")
    first = root if request.param != "moved" else root.with_name("before the move")
    deployed(root.parent / "b.tar.zst", first)
    if first != root:
        first.rename(root)
        assert rewrite_prefix(root, Reporter()).changed == ()
    return root


def plain(path: str) -> str:
    """Without the slashes that keep what is behind a path where it was."""
    return os.path.normpath(path) if path.startswith("/") else path


@pytest.mark.parametrize("program", ["rpath", "runpath", "patched"])
def test_a_compiled_program_finds_its_library_and_its_data(place: Path, program: str) -> None:
    said = run(place / "bin" / program).splitlines()
    assert plain(said[0]) == f"{place}/share/data"
    assert [plain(path) for path in said[1].split(":")] == [f"{place}/lib", f"{place}/lib64", str(place)]
    assert plain(said[2]) == f"{place}/share/tail-of-a-path"
    assert said[3] == "share/tail-of-a-path"
    assert [text.rstrip("/") for text in said[4:]] == [f"before {place}", str(place)]


@pytest.mark.parametrize(("program", "tag"), [("rpath", "RPATH"), ("runpath", "RUNPATH"), ("patched", "RUNPATH")])
def test_search_paths_of_programs_lead_into_the_deployment(place: Path, program: str, tag: str) -> None:
    line = next(
        line for line in run(need("readelf"), "-d", place / "bin" / program).splitlines() if "PATH" in line
    )
    assert f"({tag})" in line
    found = line.split("[")[1].rstrip("]")
    assert found == ("$ORIGIN/../lib" if program == "patched" else "$ORIGIN/../lib:$ORIGIN/../lib64")
    assert run(need("patchelf"), "--print-rpath", place / "bin" / program).strip() == found


def test_the_linker_did_share_the_ends_of_strings(made: SmallPrefix) -> None:
    """Else the tests above would show nothing."""
    assert (made.path / "bin/rpath").read_bytes().count(b"share/tail-of-a-path") == 1


def test_pkg_config_says_where_it_is(place: Path) -> None:
    call = [need("pkg-config"), "--variable=prefix", "where"]
    assert run(*call, PKG_CONFIG_PATH=place / "lib/pkgconfig").strip() == str(place)
    flags = run(call[0], "--cflags", "where", PKG_CONFIG_PATH=place / "lib/pkgconfig").strip().replace("\\ ", " ")
    assert flags.startswith(f"-I{place}".split(" ")[0])


def test_cmake_reads_its_configuration(place: Path, tmp_path: Path) -> None:
    script = tmp_path / "x.cmake"
    script.write_text(
        f'include("{place}/lib/cmake/Where/WhereConfig.cmake")\nmessage("${{WHERE_DIR}};${{WHERE_LIBS}}")\n'
    )
    done = subprocess.run([need("cmake"), "-P", script], capture_output=True, text=True)
    assert done.stderr.strip().split(";") == [
        f"{place}/include",
        f"{place}/lib/libwhere.so",
        f"{place}/lib/liba.a",
    ]


def test_a_libtool_file_and_a_config_script_and_activation_are_read_by_the_shell(place: Path) -> None:
    assert run(
        "/bin/sh", "-c", '. "$1"; echo "$libdir$dependency_libs"', "sh", place / "lib/libwhere.la"
    ).strip() == (f"{place}/lib -L{place}/lib -lm")
    assert run(place / "bin/where-config").strip() == f"{place} -I{place}/include"
    script = '. "$1"; echo "$WHERE_HOME $WHERE_URL"'
    said = run("/bin/sh", "-c", script, "sh", place / "etc/conda/activate.d/where.sh").strip()
    assert said == f"{place}/share file://{place}/x"


def test_texts_in_every_encoding_name_the_deployment(place: Path) -> None:
    assert (place / "etc/latin-1.conf").read_text("latin-1") == f"# café\nhome = {place}/lib\n"
    assert (place / "etc/bom.conf").read_text("utf-8-sig") == f"{place}/lib\n"
    assert (place / "etc/crlf.ini").read_bytes().decode() == f"[where]\r\nhome={place}\r\nlib={place}\\lib\r\n"
    assert json.loads((place / "etc/escaped.json").read_text()) == {"home": f"{place}/share"}
    assert "/" not in (place / "etc/escaped.json").read_text().replace("\\/", "")
    home, lib = (place / "etc/urls.txt").read_text().strip().split("?home=")[1].split("&lib=")
    assert unquote(home) == str(place) and "/" not in home
    assert unquote(urlsplit(lib).path) == f"{place}/lib"


def test_python_finds_what_the_files_of_its_packages_name(place: Path) -> None:
    kernel = json.loads((place / "share/jupyter/kernels/where/kernel.json").read_text())
    assert kernel["argv"][0] == f"{place}/bin/python" and kernel["env"] == {"HOME_OF": str(place)}
    url = json.loads((place / SITE / "where-1.dist-info/direct_url.json").read_text())["url"]
    assert unquote(urlsplit(url).path) == f"{place}/src/where"
    code = f"import site; site.addsitedir({str(place / SITE)!r}); import found; print(found.__file__)"
    assert run(sys.executable, "-I", "-S", "-B", "-c", code).strip() == f"{place}/share/python/found.py"


def test_absolute_links_lead_into_the_deployment(place: Path) -> None:
    for link, target in (("share/absolute", "etc"), ("share/to-a-file", "etc/latin-1.conf")):
        assert (place / link).resolve() == (place / target).resolve()
        assert not (place / link).readlink().is_absolute()


def test_no_file_names_the_place_it_was_made_in(made: SmallPrefix, place: Path) -> None:
    for path in place.rglob("*"):
        if path.is_file() and ".envpack" not in path.parts:
            assert os.fsencode(made.path) not in path.read_bytes(), path


# --- what can't be relocated ---


def zipped(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/where.properties", text)


def database(path: Path, text: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (x)")
        connection.execute("insert into t values (?)", (text,))
    connection.close()


HOPELESS: dict[str, tuple[Callable[[Path, str], object], str, bool]] = {
    "share/java/where.jar": (zipped, "zip archive, compressed META-INF/where.properties", True),
    "lib/where.zip": (zipped, "zip archive, compressed META-INF/where.properties", True),
    "share/where.db": (database, "SQLite database", True),
    "share/state.pickle": (lambda path, text: path.write_bytes(pickle.dumps({"x": text})), "pickle", True),
    "share/wide.txt": (lambda path, text: path.write_bytes(text.encode("utf-16")), "UTF-16 text", True),
    "share/data.gz": (lambda path, text: path.write_bytes(gzip.compress(text.encode())), "gzip file", True),
    "share/man/man1/where.1.gz": (
        lambda path, text: path.write_bytes(gzip.compress(text.encode())),
        "gzip file",
        False,
    ),
    "share/where-1.0-py3-none-any.whl": (zipped, "zip archive", False),
}


@pytest.mark.parametrize("path", HOPELESS)
def test_what_can_t_be_relocated_is_named_with_the_reason_and_whether_it_matters(
    tmp_path: Path, path: str
) -> None:
    write, reason, matters = HOPELESS[path]
    made = SmallPrefix(tmp_path / "env")
    (made.path / path).parent.mkdir(parents=True)
    write(made.path / path, f"home={made.path}/lib\n" * 20)
    before = (made.path / path).read_bytes()
    found = made.pack(tmp_path / "b.tar.gz").changes.unrelocatable
    assert [item.path for item in found] == [path]
    assert found[0].reason.startswith(reason) and found[0].matters == matters
    with pytest.raises(PackError) as caught:
        made.pack(tmp_path / "strict.tar.gz", strict=True)
    assert caught.value.details[0].startswith(f"{path}: {reason}")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.tar.gz", "env"]
    deployed = made.moved(tmp_path / "to")
    assert (deployed / path).read_bytes() == before

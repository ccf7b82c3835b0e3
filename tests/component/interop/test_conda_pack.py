"""Archives that the installed conda-pack makes of a real environment, and what envpack makes of them."""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from envpack.bundle.codecs import FAST
from envpack.bundle.pack import PackSettings, pack_prefix
from envpack.cli.commands.schema import load
from envpack.interop.convert import convert_archive
from envpack.interop.environment.repairs import REASONS
from envpack.runtime.commands.deploy import Deployment, deploy
from envpack.runtime.errors import EnvpackError, IntegrityError
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.report import Reporter
from support.conda_pack_archives import deployed
from support.forked import envpack as forked
from support.real_environments import (
    MINOR,
    NO_BYTECODE,
    SITE,
    conda_install,
    imported_code,
    lighten,
    path_of_length,
    run,
    uv_install,
)
from support.trees import paths

HOST_PATH = f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin"
FOREIGN_SCRIPT, FOREIGN_BINARY = "bin/written-by-hand", "lib/compiled-by-hand.so"


def apart(alike: Collection[str], names: Iterable[str]) -> list[Any]:
    """The cases of ``names``, of which those in ``alike`` run with the tests that take long only."""
    return [pytest.param(name, marks=pytest.mark.long) if name in alike else name for name in names]


def need(program: str) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    return program


def conda_pack(prefix: Path, output: Path, *options: str, **environment: str) -> Path:
    if output.name.endswith("gz") and "--compress-level" not in options:
        options = ("--compress-level", "1", *options)
    command = [sys.executable, "-m", "conda_pack.cli", "-q", "-p", prefix, "-o", output, *options]
    run(*command, cwd=None, **environment)
    return output


def conda_unpack(root: Path) -> Path:
    run(root / "bin/python", root / "bin/conda-unpack", PATH=f"{root}/bin:/usr/bin:/bin")
    return root


def untar(archive: Path, root: Path) -> Path:
    root.mkdir(parents=True)
    run("tar", "-xf", archive, "-C", root)
    return root


def compile_as_conda_does(prefix: Path, *modules: str) -> None:
    """What conda makes of noarch packages: compiled from within the prefix, so that byte-code tells relative paths
    (conda/gateways/disk/create.py, compile_multiple_pyc)."""
    sources = [f"{SITE}/{module}" for module in modules]
    run(prefix / "bin/python", "-m", "compileall", "-q", "-f", *sources, cwd=prefix)


LIGHT = "--ignore-missing-files"
"""For conda-pack, which reads the list of Python's files in the package cache: see `lighten`."""


@dataclass(frozen=True)
class Original:
    """An environment, and the archive conda-pack made of it."""

    prefix: Path
    archive: Path
    cache: Path


@pytest.fixture(scope="module")
def original(channel_url: str, tmp_path_factory: pytest.TempPathFactory) -> Original:
    folder = tmp_path_factory.mktemp("original")
    prefix, cache = path_of_length(folder, 100), folder / "cache"
    packages = ["python", "charset-normalizer", "click", "markdown-it-py", "relocation-samples"]
    conda_install([channel_url], prefix, packages, cache)
    lighten(prefix)
    uv_install(prefix, "cowsay", "--compile-bytecode")
    script = prefix / FOREIGN_SCRIPT
    script.write_text(f"#!{prefix}/bin/python\nimport sys\nprint(sys.prefix)\n")
    script.chmod(0o755)
    (prefix / FOREIGN_BINARY).write_bytes(b"\x7fELF\xff\0" + os.fsencode(prefix) + b"/share/x\0" + bytes(300))
    (prefix / SITE / "place.py").write_text(f"import os\nHERE = {str(prefix)!r}\n")
    (prefix / SITE / "nothing.py").write_text("def nothing():\n    return 0\n")
    compile_as_conda_does(prefix, "place.py", "nothing.py", "cowsay/characters.py")
    return Original(prefix, conda_pack(prefix, folder / "original.tar.gz", LIGHT), cache)


def samples(channel_url: str, prefix: Path, cache: Path) -> Path:
    """The package relocation-samples, and not the Python that it depends on."""
    conda_install([channel_url], prefix, ["relocation-samples"], cache, only=["relocation-samples"])
    return prefix


@pytest.fixture(scope="module")
def small(channel_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without Python, for what has to be done often."""
    folder = tmp_path_factory.mktemp("small")
    return samples(channel_url, folder / "small-environment", folder / "cache")


# --- an archive deployed is what tar and conda-unpack give, but for what these leave wrong ---


@dataclass(frozen=True)
class Trees:
    """One archive at one place: as conda-unpack leaves it (moved away since), and deployed."""

    theirs: Path
    ours: Path
    done: Deployment
    build: bytes

    @property
    def prefix(self) -> bytes:
        return os.fsencode(self.ours)


@pytest.fixture(scope="module")
def trees(original: Original, tmp_path_factory: pytest.TempPathFactory) -> Trees:
    folder = tmp_path_factory.mktemp("trees")
    place = folder / "deployed"
    conda_unpack(untar(original.archive, place))
    theirs = place.rename(folder / "unpacked by conda-unpack")
    done = deployed(original.archive, place)
    return Trees(theirs, place, done, os.fsencode(original.prefix))


def only_own(trees: Trees, theirs: bytes, ours: bytes) -> bool:
    return True


def first_line_is_the_environment_s(trees: Trees, theirs: bytes, ours: bytes) -> bool:
    first, _, rest = theirs.partition(b"\n")
    own, _, body = ours.partition(b"\n")
    program = first.removeprefix(b"#!/usr/bin/env ")
    return first != program and rest == body and own == b"#!" + trees.prefix + b"/bin/" + program


PLACEHOLDER = re.compile(rb"/[^\0\n\"']*?placehold_placehold[^/\0\n\"' ]*")


def holds_a_placeholder_or_the_old_path(trees: Trees, theirs: bytes, ours: bytes) -> bool:
    left = PLACEHOLDER.search(theirs) or trees.build in theirs
    return bool(left) and not PLACEHOLDER.search(ours) and trees.build not in ours and trees.prefix in ours


def same_strings(trees: Trees, theirs: bytes, ours: bytes) -> bool:
    """Return whether the strings are equal, except for slashes in place of NULs behind them."""

    prefix = trees.prefix

    def strings(data: bytes) -> bytes:
        first, *others = data.split(prefix)
        parts = [other.partition(b"\0") for other in others]
        mended = [re.sub(rb"/+", b"/", text) + end + behind for text, end, behind in parts]
        return re.sub(rb"\0+", b"\0", prefix.join([first, *mended]))

    return len(theirs) == len(ours) and strings(theirs) == strings(ours)


def constants(code: CodeType, mend: Callable[[str], str]) -> list[object]:
    """Everything in a code object, nested ones taken apart, each text through ``mend``."""
    names = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags", "co_firstlineno")
    found: list[object] = [getattr(code, name) for name in names]
    found.append(mend(code.co_filename))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found.append(constants(constant, mend))
        else:
            found.append(mend(constant) if isinstance(constant, str) else repr(constant))
    return found


def same_code_with_the_old_path(trees: Trees, theirs: bytes, ours: bytes) -> bool:
    old, new = trees.build.decode(), trees.prefix.decode()
    if trees.build in ours:
        return False
    source = str(trees.ours / marshal.loads(ours[16:]).co_filename)
    mended = constants(imported_code(theirs, source), lambda text: text.replace(old, new))
    return mended == constants(imported_code(ours, source), str)


def same_but_for_the_time(trees: Trees, theirs: bytes, ours: bytes) -> bool:
    return theirs[:8] == ours[:8] and theirs[16:] == ours[16:]


LEFT_OUT = {"prefix_placeholder", "sha256_in_prefix", "file_mode", "size_in_bytes", "sha256", "inode_paths"}


def same_record_without_the_machine(trees: Trees, theirs: bytes, ours: bytes) -> bool:
    def portable(data: bytes) -> Any:
        document = json.loads(data)
        for key in ("url", "channel", "schannel", "link", "auth", "requested_spec", "requested_specs"):
            document.pop(key, None)
        for item in document.get("paths_data", {}).get("paths", []):
            for key in LEFT_OUT:
                item.pop(key, None)
        document["files"] = sorted(document.get("files", []))
        document.get("paths_data", {}).get("paths", []).sort(key=lambda item: str(item["_path"]))
        return document

    return portable(theirs) == portable(ours) and b"prefix_placeholder" not in ours


Same = Callable[[Trees, bytes, bytes], bool]
DIFFERENCES: list[tuple[str, str, Same, str]] = [
    (
        "scripts",
        r"bin/(?!python|activate|deactivate|conda)[^/]+",
        first_line_is_the_environment_s,
        "conda-pack #44: they run the first python on PATH, or none when the line has options",
    ),
    (
        "bin/python*",
        r"bin/python[^/]*",
        holds_a_placeholder_or_the_old_path,
        "conda-unpack skips all files of such names, so python-config tells a placeholder",
    ),
    (
        "foreign binaries",
        r"lib/compiled-by-hand\.so",
        holds_a_placeholder_or_the_old_path,
        "conda-pack does not record binaries of no package, and leaves the old path in them",
    ),
    (
        "binaries",
        r"bin/relocation-sample|lib/(?!compiled).*\.so[.\d]*",
        same_strings,
        "other strings may share their ends with these (linkers merge them): their ends have to stay in place",
    ),
    (
        "byte-code",
        r".*\.pyc",
        same_but_for_the_time,
        "the same source has the same time everywhere, so that bundles of it are the same",
    ),
    (
        "byte-code of a source that is rewritten",
        r".*/place\.[\w-]+\.pyc",
        same_code_with_the_old_path,
        "it is stale in theirs, as its source has another size and time since",
    ),
    (
        "byte-code with a path",
        r".*(?<!/place)\.cpython-\d+\.pyc",
        same_code_with_the_old_path,
        "conda-pack leaves the old path in byte-code, and it stands in every traceback",
    ),
    (
        "conda-meta",
        r"conda-meta/.*\.json",
        same_record_without_the_machine,
        "channels of the machine it was packed on, and digests of bytes that are not there any more",
    ),
    (
        "activation",
        r"bin/(activate|activate\.fish|deactivate|conda-unpack)",
        only_own,
        "conda-pack's own scripts: they don't restore variables, and work once",
    ),
]
"""(name, paths, what is to hold for conda-unpack's bytes and ours, why theirs are wrong)."""

ONLY_OURS = re.compile(r"\.envpack/.*|bin/activate\.csh|etc/conda/(de)?activate\.d/~envpack-check\..*")
ONLY_THEIRS = re.compile(r"bin/conda_unpack_progress\.py|(.*/)?__pycache__/.*|CACHEDIR\.TAG")
"""A module of conda-unpack's own, the byte-code that running it has made, and the mark of rattler by which backups
pass over the environment."""


def test_a_deployed_archive_is_what_tar_and_conda_unpack_give_but_for_their_defects(trees: Trees) -> None:
    theirs, ours = paths(trees.theirs), paths(trees.ours)
    assert [path for path in ours.keys() - theirs.keys() if not ONLY_OURS.fullmatch(path)] == []
    assert [path for path in theirs.keys() - ours.keys() if not ONLY_THEIRS.fullmatch(path)] == []
    seen = set()
    for path in sorted(theirs.keys() & ours.keys()):
        assert theirs[path].is_symlink() == ours[path].is_symlink(), path
        if ours[path].is_symlink():
            assert theirs[path].readlink() == ours[path].readlink(), path
            continue
        executable = [bool(tree[path].stat().st_mode & 0o111) for tree in (theirs, ours)]
        assert executable[0] == executable[1], path
        old, new = theirs[path].read_bytes(), ours[path].read_bytes()
        if old != new:
            reasons = [
                name for name, where, same, _ in DIFFERENCES if re.fullmatch(where, path) and same(trees, old, new)
            ]
            assert reasons, path
            seen.add(reasons[0])
    assert seen == {name for name, *_ in DIFFERENCES}, (
        "a difference that is none any more is to be taken off the list"
    )


PUT_RIGHT = {
    "scripts": "interpreter",
    "bin/python*": "skipped",
    "foreign binaries": "unrecorded",
    "byte-code of a source that is rewritten": "byte-code",
    "byte-code with a path": "byte-code",
}
"""The kind of repair of the differences that are one."""


def test_the_documentation_lists_the_same_differences() -> None:
    page = (Path(__file__).parents[3] / "docs/interop.md").read_text(encoding="utf-8")
    right, _, rest = page.partition("### Other differences")
    kinds = set(re.findall(r"^\| `([\w-]+)` \|", right, re.MULTILINE))
    assert kinds == REASONS.keys()
    assert set(PUT_RIGHT.values()) <= kinds
    listed = set(re.findall(r"^\| ([\w*/ -]+?) \|", rest.partition("`envpack convert`")[0], re.MULTILINE))
    assert listed - {"part"} == {name for name, *_ in DIFFERENCES} - PUT_RIGHT.keys()


def test_nothing_of_the_machine_it_was_packed_on_stays(trees: Trees) -> None:
    for path, place in paths(trees.ours).items():
        if not place.is_symlink():
            assert trees.build not in place.read_bytes(), path


def test_every_file_of_a_package_is_verified_and_every_repair_reported(trees: Trees) -> None:
    manifest = json.loads((trees.ours / ".envpack/manifest.json").read_bytes())
    assert manifest["changes"]["modified"] == []
    assert set(manifest["changes"]["foreign"]) >= {FOREIGN_SCRIPT, FOREIGN_BINARY}
    repairs = {repair.kind: repair.paths for repair in trees.done.repairs}
    assert {FOREIGN_SCRIPT, "bin/cowsay", "bin/markdown-it", "bin/relocation-sample-python"} <= set(
        repairs["interpreter"]
    )
    skipped = {f"bin/python{MINOR}", "bin/python-relocation-sample"}
    assert skipped <= set(repairs["skipped"]) <= {*skipped, f"bin/python{MINOR}-config"}
    assert repairs["unrecorded"] == (FOREIGN_BINARY,)
    assert f"{SITE}/cowsay/__pycache__/main.cpython-{MINOR.replace('.', '')}.pyc" in repairs["byte-code"]
    assert trees.done.made_by.startswith("conda-pack 0.")
    assert any(re.search(r"no checksums: [\d,]+ of [\d,]+ files match", sentence) for sentence in trees.done.lacks)


def check_scripts(root: Path, how_many: int | None = None) -> None:
    """Scripts run the environment's own Python; of those of packages the first ``how_many`` are tried."""
    scripts = [path for path in (root / "bin").iterdir() if path.read_bytes()[:2] == b"#!"]
    for script in sorted(scripts)[:how_many]:
        if script.name not in ("conda-unpack", Path(FOREIGN_SCRIPT).name):
            done = subprocess.run(
                [script, "--help"], env=NO_BYTECODE, capture_output=True, stdin=subprocess.DEVNULL
            )
            assert b"Traceback" not in done.stderr and b"bad interpreter" not in done.stderr, (script, done.stderr)
            assert done.returncode in (0, 1, 2), (script, done.stderr)
    assert run(root / FOREIGN_SCRIPT).strip() == str(root)
    assert run(root / "bin/relocation-sample-python").startswith(f"{root} ")
    assert run(root / "bin/python-relocation-sample") == f"{root}\n"
    assert "plain=" + str(root) in run(root / "bin/relocation-sample").replace("//", "/")


def test_a_deployed_archive_runs_and_moves_like_any_deployment(original: Original, tmp_path: Path) -> None:
    root = tmp_path / "one"
    deployed(original.archive, root)
    check_scripts(root)
    before = {path: place.stat().st_mtime for path, place in paths(root / SITE).items() if path.endswith(".pyc")}
    run(root / "bin/python", "-c", "import cowsay, charset_normalizer, markdown_it", PYTHONDONTWRITEBYTECODE="")
    after = {path: place.stat().st_mtime for path, place in paths(root / SITE).items() if path.endswith(".pyc")}
    assert before == {path: after[path] for path in before}  # what came compiled is still good
    root = root.rename(tmp_path / "another, longer name")
    said = run("/bin/bash", "-c", '. "$1/bin/activate" && python -c "import sys; print(sys.prefix)"', "x", root)
    assert said.strip() == str(root)
    assert (root / ".envpack/prefix").read_text() == f"{root}\n"
    run(root / "bin/conda-unpack")
    check_scripts(root, 5)


def test_edited_or_damaged_files_are_reported_where_no_checksum_shows_them(small: Path, tmp_path: Path) -> None:
    archive = conda_pack(small, tmp_path / "small.tar")
    data = archive.read_bytes()
    at = data.index(b"found where it was compiled to be")
    archive.write_bytes(data[:at] + b"F" + data[at + 1 :])
    done = deployed(archive, tmp_path / "x")
    manifest = json.loads((tmp_path / "x/.envpack/manifest.json").read_bytes())
    assert len(manifest["changes"]["modified"]) == 1
    assert any("1 differ" in sentence for sentence in done.lacks)


# --- every format, and every layout ---

FORMATS = {
    "small.tar.gz": (),
    "small.tgz": ("-j", "2"),
    "small.tar.zst": (),
    "small.tar.bz2": (),
    "small.tbz2": ("-j", "2"),
    "small.tar.xz": ("--compress-level", "0", "-j", "2"),
    "small.tar": (),
    "small.zip": (),
    "links.zip": ("--zip-symlinks",),
    "below.tar.gz": ("--arcroot", "some/folder"),
    "below.zip": ("--arcroot", "folder"),
}
ALIKE = ("small.tgz", "small.tar.bz2", "small.zip", "below.tar.gz")
"""Those whose kind or layout others of these have, too."""


def check_samples(root: Path) -> None:
    """The samples work where they are."""
    assert run(root / "bin/relocation-sample-shell") == "found where it was compiled to be\n" * 2
    assert "plain=" + str(root) in run(root / "bin/relocation-sample").replace("//", "/")


def digests(root: Path) -> dict[str, str]:
    return {
        path: str(place.readlink()) if place.is_symlink() else hashlib.sha256(place.read_bytes()).hexdigest()
        for path, place in paths(root).items()
        if path not in (".envpack/deployment.json", ".envpack/manifest.json", ".envpack/manifest.sha256")
    }


@pytest.fixture(scope="module")
def direct(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The bundle of the small environment itself."""
    output = tmp_path_factory.mktemp("direct") / "direct.tar.gz"
    return pack_prefix(small, output, settings=PackSettings(name="x", version="1"), reporter=Reporter())


@pytest.fixture(scope="module")
def expected(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tree that every archive of the small environment gives at /.../x."""
    folder = tmp_path_factory.mktemp("expected")
    pack_prefix(small, folder / "b.tar.gz", settings=PackSettings(name="small"), reporter=Reporter())
    deploy(folder / "b.tar.gz", folder / "x", reporter=Reporter())
    return {path: digest for path, digest in digests(folder / "x").items() if not path.startswith(".envpack/")}


@pytest.mark.parametrize("name", apart(ALIKE, FORMATS))
def test_every_format_gives_the_same_bundle_as_the_environment_itself(
    name: str, small: Path, direct: Manifest, expected: dict[str, str], tmp_path: Path
) -> None:
    archive = conda_pack(small, tmp_path / name, *FORMATS[name])
    converted = tmp_path / "converted.tar.gz"
    made = convert_archive(archive, converted, settings=PackSettings(name="x", version="1"), reporter=Reporter())
    packages = {part.id: part.frames for part in direct.segments if part.id.startswith(("conda:", "pypi:"))}
    assert packages and packages == {
        part.id: part.frames for part in made.manifest.segments if part.id in packages
    }
    assert made.manifest.longest_prefix == direct.longest_prefix
    root = tmp_path / "x"
    deploy(converted, root, reporter=Reporter())
    from_bundle = {path: digest for path, digest in digests(root).items() if not path.startswith(".envpack/")}
    shutil.rmtree(root)
    deployed(archive, root)
    from_archive = {path: digest for path, digest in digests(root).items() if not path.startswith(".envpack/")}
    assert from_archive == from_bundle and from_archive.keys() == expected.keys()
    check_samples(root)


def test_archives_in_tar_and_zip_convert_to_the_very_same_bundle(channel_url: str, tmp_path: Path) -> None:
    """Through another time zone, too: a zip keeps local time, and byte-code the time of its source."""
    prefix = samples(channel_url, tmp_path / "environment", tmp_path / "cache")
    (prefix / SITE).mkdir(parents=True)
    (prefix / SITE / "place.py").write_text(f"HERE = {str(prefix)!r}\n")
    py_compile.compile(str(prefix / SITE / "place.py"))
    for kind, zone in (("tar.gz", "UTC"), ("zip", "Asia/Kolkata")):
        archive = conda_pack(prefix, tmp_path / f"packed.{kind}", TZ=zone)
        settings = PackSettings(name="x", version="1")
        convert_archive(archive, tmp_path / f"{kind}.tar.gz", settings=settings, reporter=Reporter())
    assert (tmp_path / "tar.gz.tar.gz").read_bytes() == (tmp_path / "zip.tar.gz").read_bytes()


def test_what_was_made_for_one_place_works_at_another(original: Original, small: Path, tmp_path: Path) -> None:
    dest = conda_pack(original.prefix, tmp_path / "dest.tar", LIGHT, "--dest-prefix", "/opt/one/place")
    parcel = conda_pack(small, tmp_path / "demo.parcel", "--parcel-name", "demo", "--parcel-version", "1.5")
    for archive in (dest, parcel):
        root = tmp_path / f"from-{archive.stem}"
        done = deployed(archive, root)
        assert any("no record of prefixes" in sentence for sentence in done.lacks)
        assert (root / "bin/relocation-sample-python").read_text().startswith(f"#!{root}/bin/python -s\n")
        assert "plain=" + str(root) in run(root / "bin/relocation-sample").replace("//", "/")
        left = [
            path
            for path, place in paths(root).items()
            if place.is_file()
            and (b"/opt/one/place" in place.read_bytes() or b"/opt/cloudera" in place.read_bytes())
        ]
        assert left == []
    assert run(tmp_path / "from-dest/bin/python-relocation-sample").strip() == f"{tmp_path}/from-dest"
    assert (done.name, done.version) == ("demo", "1.5")
    assert not (tmp_path / "from-demo/meta/parcel.json").exists()


def test_packages_gone_from_the_cache_are_proved_all_the_same(channel_url: str, tmp_path: Path) -> None:
    prefix, cache = tmp_path / "environment", tmp_path / "cache"
    samples(channel_url, prefix, cache)
    shutil.rmtree(cache)
    archive = conda_pack(prefix, tmp_path / "uncached.tar.gz")
    done = deployed(archive, tmp_path / "x")
    manifest = json.loads((tmp_path / "x/.envpack/manifest.json").read_bytes())
    assert manifest["changes"]["modified"] == []
    assert "bin/relocation-sample" in next(r.paths for r in done.repairs if r.kind == "unrecorded")
    assert str(tmp_path / "x") in run(tmp_path / "x/bin/relocation-sample")


def test_scripts_that_share_an_inode_are_read_where_tar_gives_up(channel_url: str, tmp_path: Path) -> None:
    prefix = tmp_path / "environment"
    samples(channel_url, prefix, tmp_path / "cache")
    (prefix / "bin/one").write_text(f"#!{prefix}/bin/sh\necho {'x' * 2000}\n")
    (prefix / "bin/one").chmod(0o755)
    (prefix / "bin/two").hardlink_to(prefix / "bin/one")
    archive = conda_pack(prefix, tmp_path / "linked.tar.gz")
    assert subprocess.run(["tar", "-tzf", archive], capture_output=True).returncode != 0
    done = deployed(archive, tmp_path / "x")
    assert (tmp_path / "x/bin/two").read_bytes() == (tmp_path / "x/bin/one").read_bytes()
    assert "linked" in {repair.kind for repair in done.repairs}


# --- the other way: conda-pack's formats, without its defects ---


def envpack(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return forked(*arguments, env={**os.environ, **environment})


def answer(command: str, *arguments: object) -> dict[str, Any]:
    done = envpack(command, *arguments, "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1  # nothing of conda-pack's is in between
    Draft202012Validator(load(command)).validate(document)
    assert (document["error"] or {"code": 0})["code"] == done.returncode, done.stderr
    return document


UNPACK: dict[str, tuple[str, ...]] = {
    "w.zip": ("unzip", "-q"),
    "w.tar.bz2": ("tar", "-xjf"),
    "w.tar.xz": ("tar", "-xJf"),
    "w.tar": ("tar", "-xf"),
    "w.no-archive": ("cp", "-a"),
}
NEEDED = {"w.zip": "unzip", "w.tar.bz2": "bzip2", "w.tar.xz": "xz"}


def unpacked(archive: Path, root: Path) -> Path:
    """The archive unpacked by its own program to ``root``, and finished by its conda-unpack."""
    if archive.is_dir():
        assert [path for path in archive.rglob("*") if path.is_file() and path.stat().st_nlink > 1] == []
        run("cp", "-a", archive, root)
    else:
        need(NEEDED.get(archive.name, "tar"))
        root.mkdir()
        run(*UNPACK[archive.name], archive, *(("-d", root) if archive.suffix == ".zip" else ("-C", root)))
    python = root / "bin/python"
    run(python if python.exists() else sys.executable, root / "bin/conda-unpack")
    return root


def test_what_is_written_unpacks_with_its_own_program_and_conda_unpack(original: Original, tmp_path: Path) -> None:
    result = answer("pack", "-p", original.prefix, "-o", tmp_path / "w.zip", "--level", "1")["result"]
    assert result["changes"]["modified"] == 0
    root = unpacked(tmp_path / "w.zip", tmp_path / "x")
    check_scripts(root, 5)
    assert os.fsencode(root) in (root / FOREIGN_BINARY).read_bytes()
    text = [path for path in paths(root).values() if path.suffix in (".pc", ".py", ".json") and path.is_file()]
    assert [path for path in text if os.fsencode(original.prefix) in path.read_bytes()] == []


SELF_RELATIVE = """'''exec' "$(dirname -- "$(realpath -- "$0")")/python" -s "$0" "$@\""""


@pytest.mark.parametrize("name", apart(("w.tar.bz2", "w.tar"), UNPACK))
def test_every_format_is_written_whole_and_for_all_to_read(name: str, small: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / name
    answer("pack", "-p", small, "-o", output, "--level", "1")
    assert output.stat().st_mode & 0o044 == 0o044  # conda-pack: 0600
    assert [path.name for path in output.parent.iterdir()] == [name]
    root = unpacked(output, tmp_path / "x")
    check_samples(root)
    first = (root / "bin/relocation-sample-python").read_text().splitlines()[:2]
    assert first == ["#!/bin/sh", SELF_RELATIVE]
    assert [path for path, place in paths(root).items() if os.fsencode(small) in place.read_bytes()] == []


def test_a_parcel_is_made_for_its_place(small: Path, tmp_path: Path) -> None:
    answer("pack", "-p", small, "-o", tmp_path / "demo-1.0-el8.parcel")
    with tarfile.open(tmp_path / "demo-1.0-el8.parcel") as archive:
        script = archive.extractfile("demo-1.0/bin/relocation-sample-python")
        assert script is not None
        assert script.readline() == b"#!/opt/cloudera/parcels/demo-1.0/bin/python -s\n"
        assert "demo-1.0/meta/parcel.json" in archive.getnames()
    refused = answer("pack", "-p", small, "-o", tmp_path / "demo.parcel")
    assert refused["error"]["code"] == 2 and "NAME-VERSION-DISTRIBUTION" in refused["error"]["hint"]


@pytest.mark.parametrize("name", apart(("w.tar.bz2", "w.tar.xz", "w.tar"), (*UNPACK, "w.tar.gz")))
def test_an_archive_for_one_path_works_there_without_conda_unpack(name: str, small: Path, tmp_path: Path) -> None:
    output, root = tmp_path / "out" / name, tmp_path / "there"
    answer("pack", "-p", small, "-o", output, "--dest-prefix", root)
    if output.is_dir():
        run("cp", "-a", output, root)
    else:
        need(NEEDED.get(name, "tar"))
        root.mkdir()
        command = UNPACK.get(name, ("tar", "-xzf"))
        run(*command, output, *(("-d", root) if output.suffix == ".zip" else ("-C", root)))
    assert not (root / "bin/conda-unpack").exists()
    check_samples(root)
    assert (root / "bin/relocation-sample-python").read_text().startswith(f"#!{root}/bin/python -s\n")


def test_an_archive_for_one_path_has_no_byte_code_that_names_another(channel_url: str, tmp_path: Path) -> None:
    prefix, output = samples(channel_url, tmp_path / "environment", tmp_path / "cache"), tmp_path / "a.tar"
    source = prefix / "lib/own/module.py"
    source.parent.mkdir()
    source.write_text(f"ROOT = {str(prefix)!r}\n")
    py_compile.compile(str(source))
    answer("pack", "-p", prefix, "-o", output, "--dest-prefix", "/opt/one/place")
    with tarfile.open(output) as archive:
        assert not [name for name in archive.getnames() if name.endswith(".pyc")]
        relocated = archive.extractfile("lib/own/module.py")
        assert relocated is not None and relocated.read() == b"ROOT = '/opt/one/place'\n"
    assert os.fsencode(prefix) not in output.read_bytes()


def test_a_path_that_can_t_be_written_in_is_refused(small: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar.zst"
    pack_prefix(small, bundle, settings=PackSettings(name="small"), reporter=Reporter())
    for path, name, code in (("there", "a.tar", 2), ("/there", "a-1-b.parcel", 2), (f"/{'x' * 300}", "a.tar", 8)):
        assert answer("convert", bundle, tmp_path / name, "--dest-prefix", path)["error"]["code"] == code
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar.zst"]


@pytest.mark.skipif(not shutil.which("unsquashfs"), reason="squashfs-tools are not installed")
def test_squashfs(small: Path, tmp_path: Path) -> None:
    answer("pack", "-p", small, "-o", tmp_path / "s.squashfs")
    run("unsquashfs", "-d", tmp_path / "x", tmp_path / "s.squashfs")
    assert (tmp_path / "x/bin/conda-unpack").exists()
    # an image is read only: conda-unpack never runs in it
    assert SELF_RELATIVE in (tmp_path / "x/bin/relocation-sample-python").read_text()


def test_a_missing_mksquashfs_is_named_and_leaves_nothing(small: Path, tmp_path: Path) -> None:
    done = envpack("pack", "-p", small, "-o", tmp_path / "s.squashfs", PATH="/nonexistent")
    assert done.returncode == 5 and "mksquashfs is not installed" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failing_conda_pack_leaves_nothing_and_says_so(small: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mksquashfs").write_text("#!/bin/sh\necho half > $2; echo noise; exit 1\n")
    (tmp_path / "bin/mksquashfs").chmod(0o755)
    done = envpack("pack", "-p", small, "-o", tmp_path / "out/s.squashfs", PATH=f"{tmp_path}/bin:/usr/bin:/bin")
    assert done.returncode == 5 and done.stdout == ""
    assert "mksquashfs failed with status 1" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_files_that_pip_replaced_or_a_user_edited_are_packed_as_they_are(channel_url: str, tmp_path: Path) -> None:
    """conda-pack stops at the first (#98 and many more), and takes the package cache's file for the second."""
    prefix = tmp_path / "environment"
    samples(channel_url, prefix, tmp_path / "cache")
    (prefix / "share/relocation-samples/data.txt").write_text("edited\n")
    (prefix / "share/relocation-samples/notes.txt").unlink()
    result = answer("pack", "-p", prefix, "-o", tmp_path / "e.zip")["result"]
    assert (result["changes"]["modified"], result["changes"]["missing"]) == (1, 1)
    run(need("unzip"), "-q", tmp_path / "e.zip", "-d", tmp_path / "x")
    assert (tmp_path / "x/share/relocation-samples/data.txt").read_text() == "edited\n"


def test_links_that_lead_out_are_followed_into_every_format(small: Path, tmp_path: Path) -> None:
    prefix = Path(shutil.copytree(small, tmp_path / "environment", symlinks=True))
    (tmp_path / "outside.txt").write_text("from outside\n")
    (prefix / "share/link.txt").symlink_to(tmp_path / "outside.txt")
    answer("pack", "-p", prefix, "-o", tmp_path / "w.zip", "--outside-links", "follow")
    run(need("unzip"), "-q", tmp_path / "w.zip", "-d", tmp_path / "x")
    assert not (tmp_path / "x/share/link.txt").is_symlink()
    assert (tmp_path / "x/share/link.txt").read_text() == "from outside\n"


def test_a_bundle_becomes_an_archive_and_a_bundle_again(small: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.tar.zst", tmp_path / "second.tar.zst"
    settings = PackSettings(name="small", version="1.2")
    direct = pack_prefix(small, first, settings=settings, reporter=Reporter())
    result = answer("convert", first, tmp_path / "z.zip")["result"]
    assert (result["name"], result["version"], result["lacks"]) == ("small", "1.2", [])
    answer("convert", tmp_path / "z.zip", second, "--bundle-name", "small", "--bundle-version", "1.2")
    made = convert_archive(tmp_path / "z.zip", tmp_path / "third.tar.zst", settings=settings, reporter=Reporter())
    packages = {part.id: part.frames for part in direct.segments if part.id.startswith("conda:")}
    assert packages == {part.id: part.frames for part in made.manifest.segments if part.id in packages}
    deploy(second, tmp_path / "x", reporter=Reporter(), decoders=FAST)
    check_samples(tmp_path / "x")
    first_line = (tmp_path / "x/bin/relocation-sample-python").read_text().partition("\n")[0]
    assert first_line == f"#!{tmp_path}/x/bin/python -s"
    refused = answer("convert", first, tmp_path / "again.tar.gz")
    assert refused["error"]["code"] == 2 and "already" in refused["error"]["message"]
    assert not (tmp_path / "again.tar.gz").exists()


# --- the command line ---


def test_the_commands_take_archives_and_report_missing_information(small: Path, tmp_path: Path) -> None:
    archive = conda_pack(small, tmp_path / "small.tar.zst")
    shown = answer("inspect", archive)["result"]
    assert shown["format"] is None and shown["archive"]["layout"] == "conda-unpack"
    assert shown["archive"]["prefix"] in (str(small), None) or "placehold" in shown["archive"]["prefix"]
    assert [package["name"] for package in shown["packages"]] == ["relocation-samples"]
    done = answer("deploy", archive, tmp_path / "x")["result"]
    assert done["made_by"] == shown["writer"] and len(done["lacks"]) > 4 and done["repairs"]
    for command in (("inspect", archive), ("deploy", archive, tmp_path / "y")):
        said = envpack(*command)
        assert said.returncode == 0 and "made by conda-pack" in said.stdout and "no requirements" in said.stdout
    other = tmp_path / "other"
    other.write_text("something else entirely")
    assert answer("inspect", other)["error"]["code"] == 6
    assert answer("deploy", other, tmp_path / "z")["error"]["code"] == 6


def test_convert_replaces_nothing_without_force_and_leaves_nothing_incomplete(small: Path, tmp_path: Path) -> None:
    archive = conda_pack(small, tmp_path / "small.tar.gz")
    (tmp_path / "there.tar.gz").write_text("mine")
    assert answer("convert", archive, tmp_path / "there.tar.gz")["error"]["code"] == 10
    assert (tmp_path / "there.tar.gz").read_text() == "mine"
    archive.write_bytes(archive.read_bytes()[:-1000])
    with pytest.raises(IntegrityError):
        convert_archive(archive, tmp_path / "new.tar.gz", settings=PackSettings(), reporter=Reporter())
    with pytest.raises(EnvpackError):
        deployed(archive, tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.tar.gz", "there.tar.gz"]

"""The author's own files in bundles: read, packed, deployed, imported, upgraded alone, and added to a bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envpack.bundle.cache import signature
from envpack.bundle.codecs import FAST
from envpack.bundle.on_base import pack_on_base
from envpack.bundle.pack import PackSettings
from envpack.prefix.own.read import OwnFiles, application
from envpack.prefix.scan.prune import Selection
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.commands.repair import repair
from envpack.runtime.commands.verify import verify
from envpack.runtime.errors import IntegrityError, PackError, UsageError
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.report import Reporter
from support.command_line import envpack
from support.environments import Environment
from support.hostile_bundles import Forgery
from support.reporters import RecordingReporter
from support.servers import Files, serving
from support.small_prefix import SmallPrefix

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
TAG = "Signature: 8a477f597d28d172789f06886806bc55\n"


@pytest.fixture
def env(tmp_path: Path) -> SmallPrefix:
    """An environment with the names, not the programs, of a Python."""
    made = Environment(tmp_path / "env")
    version = PYTHON.removeprefix("python")
    made.conda(
        "python", f"{version}.0", files={f"bin/{PYTHON}": "#!/bin/sh\n", f"lib/{PYTHON}/site.py": "x = 1\n"}
    )
    made.conda("big", "1", files={"share/big.bin": os.urandom(1 << 20)})
    return SmallPrefix(tmp_path / "env")


@pytest.fixture
def code(tmp_path: Path) -> SmallPrefix:
    made = SmallPrefix(tmp_path / "code")
    (made.path / "conda-meta/history").unlink()
    (made.path / "conda-meta").rmdir()
    made.write("main.py", "from helpers import answer\n")
    made.write("helpers/__init__.py", "answer = 1\n")
    return made


def app(code: SmallPrefix, path: str = "app") -> OwnFiles:
    return application(code.path, path)


def stored(bundle: Path) -> dict[str, list[str]]:
    """Return the paths of each segment."""
    with open_bundle(bundle, FAST) as opened:
        return {id: [record.path for record in records] for id, records in opened.table().segments.items()}


def on_base(base: Path, output: Path, *own: OwnFiles, **settings: object) -> Manifest:
    chosen = {"version": "", **settings}
    return pack_on_base(base, output, settings=PackSettings(own=own, **chosen), reporter=Reporter())  # type: ignore[arg-type]


def imported(root: Path, statement: str, *options: str) -> str:
    """Return what a real Python prints that reads the .pth files of a deployment, and nothing else of it."""
    script = f"import site; site.addsitedir({str(root / 'lib' / PYTHON / 'site-packages')!r}); {statement}"
    done = subprocess.run(
        [sys.executable, "-I", *(options or ["-B"]), "-c", script], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_application_is_a_segment_of_its_own_that_a_deployment_can_import(env, code, tmp_path):
    env.pack(tmp_path / "b.tar.gz", own=(app(code),))
    assert stored(tmp_path / "b.tar.gz")["app:app"] == [
        "app/helpers/__init__.py",
        "app/main.py",
        f"lib/{PYTHON}/site-packages/envpack-app.pth",
    ]
    root = tmp_path / "elsewhere" / "x"
    deploy(tmp_path / "b.tar.gz", root, reporter=Reporter(), decoders=FAST)
    assert imported(root, "import main; print(main.answer, main.__file__)") == f"1 {root}/app/main.py\n"


def test_what_no_application_needs_is_left_out(env, code, tmp_path):
    for path in (".git/config", ".hg/x", "__pycache__/a.pyc", "helpers/__pycache__/b.pyc", "helpers/.git"):
        code.write(path, "")
    code.write(".venv/pyvenv.cfg", "")
    code.write(".venv/lib/module.py", "")
    code.write("conda/conda-meta/history", "")
    code.write("conda/bin/tool", "")
    code.write(".ruff_cache/CACHEDIR.TAG", TAG)
    code.write(".ruff_cache/0.1/x", "")
    code.write("data/CACHEDIR.TAG", "no tag")
    code.write("notes.ipynb", "")
    code.write("tests/test_main.py", "")
    output = code.path / "b.tar.gz"
    selection = Selection(exclude=["*.ipynb", "app/data"], prune=["tests"])
    for _ in range(2):
        env.pack(output, own=(app(code),), selection=selection)
        kept = [path for path in stored(output)["app:app"] if path.startswith("app/")]
        assert kept == ["app/helpers/__init__.py", "app/main.py", "app/tests/test_main.py"]
    assert selection.idle() == []


def test_links_empty_directories_and_modes_are_packed(env, code, tmp_path):
    code.write("run.sh", "#!/bin/sh\n", 0o700)
    code.link("start", "run.sh")
    code.link("absolute", code.path / "main.py")
    (code.path / "outputs").mkdir(mode=0o700)
    root = env.moved(tmp_path / "to", own=(app(code),))
    assert (root / "app/start").readlink() == Path("run.sh")
    assert (root / "app/absolute").readlink() == Path("main.py")
    assert (root / "app/outputs").is_dir()
    assert (root / "app/run.sh").stat().st_mode & 0o111
    assert not (root / "app/main.py").stat().st_mode & 0o111


def test_a_link_out_of_the_directory_is_refused_as_one_out_of_the_environment(env, code, tmp_path):
    (tmp_path / "secret").write_text("s")
    code.link("out", "../secret")
    with pytest.raises(PackError) as caught:
        env.pack(tmp_path / "b.tar.gz", own=(app(code),))
    assert any(line.startswith("out: links to ../secret") for line in caught.value.details)
    env.pack(tmp_path / "b.tar.gz", own=(app(code),), outside="follow")
    assert "app/out" in stored(tmp_path / "b.tar.gz")["app:app"]
    manifest = env.pack(tmp_path / "b.tar.gz", own=(app(code),), outside="keep")
    assert manifest.changes.outside == ("app/out",)


def test_a_pipe_and_an_empty_directory_are_refused(env, code, tmp_path):
    (tmp_path / "none/.git").mkdir(parents=True)
    (tmp_path / "none/.git/config").write_text("")
    with pytest.raises(PackError, match="no files"):
        env.pack(tmp_path / "b.tar.gz", own=(application(tmp_path / "none", "app"),))
    os.mkfifo(code.path / "pipe")
    with pytest.raises(PackError) as caught:
        env.pack(tmp_path / "b.tar.gz", own=(app(code),))
    assert caught.value.details == ["pipe: is a pipe"]


def test_the_environment_s_path_is_relocated_in_own_files_too(env, code, tmp_path):
    code.write("run.sh", f"#!{env.path}/bin/{PYTHON}\nprint('{env.path}')\n", 0o755)
    root = env.moved(tmp_path / "to", own=(app(code),))
    assert (root / "app/run.sh").read_text() == f"#!{root}/bin/{PYTHON}\nprint('{root}')\n"


def test_only_the_application_is_packed_again_after_a_change(env, code, tmp_path, monkeypatch):
    monkeypatch.setattr(signature, "RACY", -(10**9))  # the files are as old as the test
    monkeypatch.setenv("ENVPACK_CACHE", str(tmp_path / "cache"))
    assert envpack("pack", "-p", env.path, "--app", code.path, "-o", tmp_path / "1.tar.gz").code == 0
    code.write("main.py", "answer = 2\n")
    done = envpack("pack", "-p", env.path, "--app", code.path, "-o", tmp_path / "2.tar.gz")
    assert "3 of 4 parts reused" in done.err


@pytest.fixture
def served() -> Iterator[Files]:
    with serving({}) as files:
        yield files


def test_an_upgrade_after_a_change_of_the_code_reads_only_its_segment(env, code, tmp_path, served):
    base, new = tmp_path / "1.tar.gz", tmp_path / "2.tar.gz"
    env.pack(base, own=(app(code),), version="1")
    served.data["/1"] = base.read_bytes()
    root = tmp_path / "x"
    deploy(f"{served.url}/1", root, reporter=Reporter(), decoders=FAST)
    (root / "app/outputs").mkdir()
    code.write("main.py", "answer = 2\n")
    on_base(base, new, app(code), version="2")
    served.data["/2"] = new.read_bytes()
    served.reset()
    deploy(f"{served.url}/2", root, reporter=Reporter(), decoders=FAST)
    with open_bundle(new, FAST) as opened:
        own = sum(segment.stored for segment in opened.manifest.segments if segment.id in ("app:app", "end"))
        assert served.served <= max(opened.head_size, 64 << 10) + own
        assert opened.manifest.version == "2"
    assert imported(root, "import main; print(main.answer)") == "2\n"
    assert not verify(root, reporter=Reporter(), decoders=FAST).changed


def test_own_files_are_repaired_as_others_are(env, code, tmp_path):
    env.pack(tmp_path / "b.tar.gz", own=(app(code),))
    root = tmp_path / "x"
    deploy(tmp_path / "b.tar.gz", root, reporter=Reporter(), decoders=FAST)
    (root / "app/main.py").write_text("edited\n")
    found = verify(root, reporter=Reporter(), decoders=FAST)
    assert [item.path for item in found.changed] == ["app/main.py"]
    repair(root, str(tmp_path / "b.tar.gz"), reporter=Reporter(), decoders=FAST)
    assert (root / "app/main.py").read_text() == "from helpers import answer\n"


def test_files_keep_their_time_so_that_a_change_of_the_same_size_is_noticed(env, code, tmp_path):
    root, cache = tmp_path / "x", f"pycache_prefix={tmp_path / 'pycache'}"
    for answer, time in ((1, 10**9), (2, 10**9 + 1)):
        os.utime(code.write("main.py", f"answer = {answer}\n"), (time, time))
        env.pack(tmp_path / "b.tar.gz", own=(app(code),))
        deploy(tmp_path / "b.tar.gz", root, reporter=Reporter(), decoders=FAST)
        assert (root / "app/main.py").stat().st_mtime == time
        assert imported(root, "import main; print(main.answer)", "-X", cache) == f"{answer}\n"


def test_with_a_time_given_bundles_do_not_depend_on_when_the_code_was_written(env, code, tmp_path):
    bundles = [tmp_path / "1.tar.gz", tmp_path / "2.tar.gz"]
    for bundle, time in zip(bundles, (10**9 + 5, 10**9 + 7), strict=True):
        os.utime(code.path / "main.py", (time, time))
        env.pack(bundle, own=(app(code),), created=10**9)
    assert bundles[0].read_bytes() == bundles[1].read_bytes()


def test_a_compiled_program_of_the_application_counts_for_what_hosts_need(env, code, tmp_path):
    code.write("fast", Path("/bin/true").read_bytes(), 0o755)
    glibc = env.pack(tmp_path / "b.tar.gz", own=(app(code),)).needs.glibc
    assert glibc is None or "app/fast" in glibc.source
    if os.uname().machine == "x86_64":  # as the packages of this environment
        assert glibc is not None


def test_setuid_is_warned_of_and_names_of_the_bundle_s_own_scripts_are_packed(env, code, tmp_path):
    code.write("tool", "#!/bin/sh\n", 0o4755)
    code.write("bin/activate", "mine\n")
    reporter = RecordingReporter()
    env.pack(tmp_path / "b.tar.gz", reporter, own=(app(code),))
    assert any("app/tool" in warning for warning in reporter.warnings)
    assert "app/bin/activate" in stored(tmp_path / "b.tar.gz")["app:app"]


# --- onto a bundle ---


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst"])
def test_a_bundle_with_a_base_is_the_one_that_packing_the_environment_gives(env, code, tmp_path, suffix):
    files = OwnFiles("files", {"etc/app.yml": code.write("app.yml", "x: 1\n")})
    base, whole, new = (tmp_path / f"{name}{suffix}" for name in ("base", "whole", "new"))
    env.pack(base, own=(files, app(code)))
    code.write("main.py", "answer = 2\n")
    (code.path / "helpers/__init__.py").unlink()
    code.write("added.py", "")
    env.pack(whole, own=(files, app(code)))
    env.path.rename(tmp_path / "gone")
    on_base(base, new, app(code))
    assert new.read_bytes() == whole.read_bytes()
    on_base(new, new, app(code))
    assert new.read_bytes() == whole.read_bytes()


def test_an_application_is_added_to_a_bundle_without_one(env, code, tmp_path):
    env.pack(tmp_path / "base.tar.gz", commands={"serve": "python -m main"}, version="1")
    manifest = on_base(tmp_path / "base.tar.gz", tmp_path / "new.tar.gz", app(code), version="2")
    assert (manifest.version, manifest.commands) == ("2", {"serve": "python -m main"})
    env.pack(tmp_path / "whole.tar.gz", commands={"serve": "python -m main"}, version="2", own=(app(code),))
    assert (tmp_path / "new.tar.gz").read_bytes() == (tmp_path / "whole.tar.gz").read_bytes()


def test_what_was_said_of_replaced_files_is_no_longer_said(env, code, tmp_path):
    code.write("odd.bin", b"\0" + os.fsencode(env.path) + b"\xff\0")
    (tmp_path / "outside").write_text("")
    code.link("out", "../outside")
    first = env.pack(tmp_path / "base.tar.gz", own=(app(code),), outside="keep")
    assert first.changes.outside
    (code.path / "odd.bin").unlink()
    (code.path / "out").unlink()
    env.pack(tmp_path / "whole.tar.gz", own=(app(code),))
    second = on_base(tmp_path / "base.tar.gz", tmp_path / "new.tar.gz", app(code))
    with open_bundle(tmp_path / "whole.tar.gz", FAST) as whole:
        assert second.changes == whole.manifest.changes
        assert second.longest_prefix == whole.manifest.longest_prefix


def test_a_damaged_base_is_not_copied(env, code, tmp_path):
    base = tmp_path / "base.tar.gz"
    env.pack(base)
    data = bytearray(base.read_bytes())
    data[len(data) // 2] ^= 1
    base.write_bytes(data)
    with pytest.raises(IntegrityError, match="damaged"):
        on_base(base, tmp_path / "new.tar.gz", app(code))
    assert not (tmp_path / "new.tar.gz").exists()


def test_a_base_that_says_more_than_this_version_knows_is_refused(code, tmp_path):
    base = Forgery(manifest=lambda document: {**document, "later": {}}).write(tmp_path / "base.tar.gz")
    with pytest.raises(PackError, match="later would be lost"):
        on_base(base, tmp_path / "new.tar.gz", app(code))
    base = Forgery().write(tmp_path / "base.tar.gz")
    assert on_base(base, tmp_path / "new.tar.gz", app(code)).variables == {"A": "b"}
    assert envpack("verify", tmp_path / "new.tar.gz").code == 0


def test_what_can_t_be_added_to_a_bundle_is_refused(env, code, tmp_path):
    base = tmp_path / "base.tar.gz"
    env.pack(base)
    with pytest.raises(UsageError, match="format of the base"):
        on_base(base, tmp_path / "new.tar.zst", app(code))
    with pytest.raises(PackError, match="packed twice"):
        on_base(base, tmp_path / "new.tar.gz", app(code, "share"))
    code.write("fast.so", b"\x7fELF" + bytes(100))
    with pytest.raises(PackError, match=r"app/fast\.so is a compiled"):
        on_base(base, tmp_path / "new.tar.gz", app(code))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.tar.gz", "code", "env"]


# --- the command ---


def test_the_command_packs_and_shows_an_application(env, code, tmp_path):
    base, new = tmp_path / "base.tar.gz", tmp_path / "new.tar.gz"
    done = envpack("pack", "-p", env.path, "--app", code.path, "-o", base, "--no-cache")
    assert done.code == 0, done.err
    code.write("main.py", "")
    done = envpack("pack", "--base", base, "--app", code.path, "--bundle-version", "2.0", "-o", new)
    assert done.code == 0, done.err
    assert envpack("verify", new).code == 0
    shown = envpack("inspect", new).out
    assert "own files" in shown
    assert "app:app" in shown
    result = json.loads(envpack("inspect", "--json", new).out)["result"]
    assert [(part["segment"], part["path"]) for part in result["own_files"]] == [("app:app", "app")]
    assert (result["name"], result["version"]) == ("env", "2.0")


@pytest.mark.parametrize(
    "words",
    [
        ["--base", "b.tar.gz", "-o", "n.tar.gz"],
        ["--base", "b.tar.gz", "--app", "."],
        ["--base", "b.tar.gz", "--app", ".", "-o", "n.tar.gz", "-p", "/env"],
        ["--base", "b.tar.gz", "--app", ".", "-o", "n.tar.gz", "--prune", "tests"],
        ["--app", "/nonexistent-directory"],
        ["--base", "https://example.org/b.tar.gz", "--app", ".", "-o", "n.tar.gz"],
    ],
)
def test_options_that_contradict_each_other_are_refused(words):
    assert envpack("pack", *words).code == 2


def test_other_formats_have_the_application_too(env, code, tmp_path):
    (code.path / "empty").mkdir()
    done = envpack("pack", "-p", env.path, "--app", code.path, "-o", tmp_path / "x.no-archive", "--no-cache")
    assert done.code == 0, done.err
    assert (tmp_path / "x.no-archive/app/main.py").is_file()
    assert (tmp_path / "x.no-archive/app/empty").is_dir()


def test_a_deployment_with_the_application_can_be_packed_again(env, code, tmp_path):
    root = env.moved(tmp_path / "to", own=(app(code),))
    code.write("main.py", "answer = 3\n")
    (code.path / "helpers/__init__.py").unlink()
    SmallPrefix(root).pack(tmp_path / "again.tar.gz", own=(app(code),))
    segments = stored(tmp_path / "again.tar.gz")
    assert [path for path in segments["app:app"] if path.startswith("app/")] == ["app/helpers", "app/main.py"]
    assert not any(path.startswith("app/") for path in segments["environment"])

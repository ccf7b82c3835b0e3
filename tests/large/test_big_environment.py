"""An environment as AI services have it, 40,000 files and more: torch, transformers and gradio pip-installed over
conda's numpy and pillow, packed without flags, and deployed to short, long and blank-holding places.

What works and what fails in the original has to work and fail alike in every deployment. Run by
``make test-large``; some minutes and 20 GB of disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PIP = ["torch", "transformers", "gradio", "numpy<2.3", "pillow<12"]
CONDA = ["python", "pip", "numpy", "pillow"]
CLEAN = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "COLUMNS": "80",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",  # hf tells of a new version once in 24 hours
}
PLACES = {
    "short": "/e",
    "200 bytes": "/" + "long/" * 36,
    "blanks": "/my envs/the big one",
}

UNQUOTED = (r"python(3(\.\d+)?)?-config",)
"""Scripts that do not quote their own path, and complain in any folder with a blank in its name, wherever they
were installed: CPython's Misc/python-config.sh.in has ``cd $(dirname "$1")``."""

IMPORTS = """
import importlib, importlib.metadata, json, os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = ""
done = {}
for name in sorted({name for name in importlib.metadata.packages_distributions() if name.isidentifier()}):
    if name in ("this", "antigravity"):
        continue
    try:
        importlib.import_module(name)
        done[name] = "imports"
    except BaseException as problem:
        done[name] = type(problem).__name__
print("\\n" + json.dumps(done))
sys.stdout.flush()
os._exit(0)
"""


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """On the checkout's disk, which has room, and under a short name, to make room for long ones."""
    path = REPOSITORY / "build" / "large"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def original(folder: Path) -> Path:
    """conda's packages by rattler, then pip's over them, as ``pip install`` in an activated shell does."""
    channel = folder / "channel"
    run(sys.executable, REPOSITORY / "scripts/make_channel.py", channel, "pip", "numpy<2.2", "pillow<11")
    prefix = folder / "original-environment-with-a-name-as-people-choose-them"
    install = """
import asyncio, sys, rattler
async def main():
    records = await rattler.solve([rattler.Channel(sys.argv[1])], sys.argv[3:], platforms=["linux-64", "noarch"])
    await rattler.install(records, sys.argv[2], show_progress=False)
    await asyncio.sleep(0.1)
asyncio.run(main())
"""
    run(sys.executable, "-c", install, channel.as_uri(), prefix, *CONDA)
    environment = {**os.environ, "PYTHONNOUSERSITE": "1"}
    run(prefix / "bin/python", "-m", "pip", "install", "-q", "--no-warn-script-location", *PIP, env=environment)
    return prefix


def answers(root: Path) -> dict[str, str]:
    """Return the output of each console script with --help, without the path of the environment."""

    def ask(script: Path) -> tuple[str, str]:
        try:
            done = subprocess.run(
                [script, "--help"], env=CLEAN, cwd="/", capture_output=True, stdin=subprocess.DEVNULL, timeout=240
            )
        except subprocess.TimeoutExpired:
            return script.name, "still running"
        text = (done.stdout + done.stderr).replace(os.fsencode(root), b"PREFIX").decode("utf-8", "replace")
        # addresses, times, the terminal's lines, and line numbers, which the portable first lines shift
        text = re.sub(r"0x[0-9a-f]+|[0-9.]+ ?s\b|:\d+:|line \d+|[\s│]+", " ", text)
        return script.name, f"{done.returncode} {text}"

    ours = {"activate", "activate.fish", "activate.csh", "deactivate", "conda-unpack"}
    scripts = [
        path
        for path in sorted((root / "bin").iterdir())
        if path.name not in ours and path.is_file() and path.read_bytes()[:2] == b"#!"
    ]
    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(ask, scripts))


def imports(root: Path) -> dict[str, str]:
    done = run(root / "bin/python", "-c", IMPORTS, env=CLEAN, cwd="/")
    answer: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def bundle(original: Path, folder: Path) -> Path:
    """Packed first, then tried: what is tried writes byte-code."""
    path = folder / "big.tar.zst"
    done = run(sys.executable, "-m", "envpack", "pack", "-p", original, "-o", path, "--json")
    print(done.stderr, json.loads(done.stdout)["result"])
    return path


@pytest.fixture(scope="module")
def expected(bundle: Path, original: Path) -> tuple[dict[str, str], dict[str, str]]:
    return answers(original), imports(original)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("place", PLACES)
def test_a_deployment_does_what_the_original_does(
    bundle: Path, folder: Path, original: Path, expected: tuple[dict[str, str], dict[str, str]], place: str
) -> None:
    base = str(folder)
    root = Path((base + PLACES[place]).rstrip("/"))
    if place == "200 bytes":
        root = Path((base + "/" + "a-long-name-" * 20)[:200])
        assert len(os.fsencode(root)) == 200
    done = run(sys.executable, "-m", "envpack", "deploy", "--gpu", "none", bundle, root, "--json")
    print(done.stderr)
    try:
        scripts, modules = expected
        assert len(scripts) > 20
        assert modules["torch"] == modules["transformers"] == modules["gradio"] == "imports"
        assert imports(root) == modules
        here = answers(root)
        excused = UNQUOTED if place == "blanks" else ()
        differing = {
            name: (said, here.get(name))
            for name, said in scripts.items()
            if said != here.get(name) and not re.fullmatch("|".join(excused), name)
        }
        assert differing == {}
        assert len(here) == len(scripts)
        traces = subprocess.run(
            ["grep", "-rlF", "--exclude-dir=.envpack", str(original), root], capture_output=True, text=True
        )
        assert traces.stdout == ""
    finally:
        shutil.rmtree(root)

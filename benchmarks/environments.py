"""Environments to measure with: a synthetic one of any size, and real ones from a package index.

    python benchmarks/environments.py A                      # 2.2 GB, 46,000 files: TensorFlow for CPUs and more
    python benchmarks/environments.py B                      # 5.9 GB, 41,000 files: PyTorch 2.7.1 with CUDA
    python benchmarks/environments.py synthetic --size 0.5 --files 20000 --prefix-files 0.05

Print the path. An environment is made once and stays in ``build/bench/environments``, with a file that says what
it was made of; asked for otherwise, it is made anew.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import marshal
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "build" / "bench"

PACKAGE_FILES = 150
"""Files of a package, about, as in scientific environments: 40,000 files are of some 250 packages."""

BYTECODE = 0.4
"""Share of the files that is byte-code, which holds the environment's path, as pip and uv leave it."""

TEXT_BYTES = 0.3
"""Share of the bytes that is in modules and their byte-code at most; the rest is in libraries."""

ROOM = 255
"""Bytes that conda leaves for a path in a binary."""


@dataclass(frozen=True)
class Recipe:
    """The packages of an environment: conda's from a local channel, then pip's from the index."""

    conda: tuple[str, ...]
    pip: tuple[str, ...]


CONDA = ("python", "pip", "numpy", "pillow")
RECIPES = {
    "A": Recipe(
        CONDA,
        (
            *("tensorflow-cpu==2.21.*", "transformers==4.57.*", "gradio==5.50.*", "diffusers==0.36.*"),
            *("pandas==2.3.*", "sympy==1.14.*", "plotly==6.*", "numpy<2.2", "pillow<11"),
        ),
    ),
    "B": Recipe(
        CONDA,
        (
            *("torch==2.7.1", "torchvision==0.22.1", "transformers==4.57.*", "diffusers==0.36.*"),
            *("accelerate==1.*", "gradio==5.50.*", "pandas==2.3.*", "sympy==1.14.*", "numpy<2.2", "pillow<11"),
        ),
    ),
}


@dataclass(frozen=True)
class Synthetic:
    """``size``: GB of 10^9 bytes; ``prefix_files``: share of modules that hold the path in their text,
    ``prefix_bytes``: of libraries' bytes that are in ones that hold it, ``incompressible``: of libraries' bytes
    that are noise, as compressed GPU code is."""

    size: float = 0.1
    files: int = 2000
    prefix_files: float = 0.02
    prefix_bytes: float = 0.1
    incompressible: float = 0.1
    seed: int = 1

    @property
    def name(self) -> str:
        return f"synthetic-{self.size:g}GB-{self.files}"


def make(prefix: Path, what: Recipe | Synthetic) -> Path:
    """Create the environment at ``prefix``, unless it exists and is the same; return ``prefix``."""
    made, wanted = prefix.with_name(prefix.name + ".json"), json.loads(json.dumps(asdict(what)))
    if prefix.is_dir() and made.is_file() and json.loads(made.read_text())["of"] == wanted:
        return prefix
    made.unlink(missing_ok=True)
    shutil.rmtree(prefix, ignore_errors=True)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(what, Recipe):
        install(prefix, what)
    else:
        _Writer(prefix, what).write()
    made.write_text(json.dumps({"of": wanted, **survey(prefix)}, indent=1) + "\n")
    return prefix


def survey(prefix: Path) -> dict[str, int]:
    """``files`` (folders apart) and ``size`` in bytes, each file once."""
    files = size = 0
    seen = set()
    for folder, _, names in os.walk(prefix):
        for name in names:
            status = os.lstat(os.path.join(folder, name))  # noqa: PTH118
            files += 1
            if (status.st_dev, status.st_ino) not in seen:
                size += status.st_size
            if status.st_nlink > 1:
                seen.add((status.st_dev, status.st_ino))
    return {"files": files, "size": size}


def install(prefix: Path, recipe: Recipe) -> None:
    """Install a real environment: conda's packages by rattler, pip's by uv, with byte-code as pip compiles it."""
    import rattler
    from uv import find_uv_bin

    channel = FOLDER / "channel"
    if not channel.is_dir():
        maker = [sys.executable, str(REPOSITORY / "scripts/make_channel.py"), str(channel)]
        subprocess.run([*maker, "pip", "numpy<2.2", "pillow<11"], check=True, stdout=sys.stderr)

    async def conda() -> None:
        sources = [rattler.Channel(channel.as_uri())]
        records = await rattler.solve(sources, list(recipe.conda), platforms=["linux-64", "noarch"])
        await rattler.install(records, prefix, show_progress=False)
        await asyncio.sleep(0.1)

    asyncio.run(conda())
    uv = [find_uv_bin(), "pip", "install", "-q", "--python", str(prefix / "bin/python")]
    subprocess.run([*uv, "--compile-bytecode", *recipe.pip], check=True, stdout=sys.stderr)


@dataclass
class _Writer:
    """A synthetic environment: distributions of pip's and packages of conda's, of modules, their byte-code, and
    one library each. The same for the same options, seed and Python."""

    prefix: Path
    options: Synthetic
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.options.seed)
        total = int(self.options.size * 1e9)
        packages = max(2, self.options.files // PACKAGE_FILES)
        text = min(int(TEXT_BYTES * total), 12_000 * self.options.files)
        modules = min(1000, 10 + self.options.files // 4)
        self.modules = _modules(self.random, max(300, text // self.options.files), modules)
        self.code = _machine_code(self.random, min(16 << 20, total))
        shares = [self.random.lognormvariate(0, 1) for _ in range(packages)]
        self.libraries = [max(4096, int((total - text) * share / sum(shares))) for share in shares]
        self.counts = [self.options.files // packages] * packages
        self.counts[-1] += self.options.files % packages

    def write(self) -> None:
        (self.prefix / "conda-meta").mkdir(parents=True)
        (self.prefix / "conda-meta/history").write_text("")
        (self.prefix / "bin").mkdir()
        for number, count in enumerate(self.counts):
            self._package(f"package{number}", count, self.libraries[number], conda=number % 10 == 0)

    def _package(self, name: str, count: int, size: int, conda: bool) -> None:
        site = "lib/python3.11/site-packages"
        files = [self._file(f"{site}/{name}/lib{name}.so", self._library(size))]
        holds = f"#!{self.prefix}/bin/python\nimport {name}\n".encode()
        files.append(self._file(f"bin/run-{name}", holds, 0o755))
        left = max(2, count - len(files) - (1 if conda else 4))
        for index in range(left - int(left * BYTECODE)):
            source, code = self.random.choice(self.modules)
            place = f"{site}/{name}/part{index % 8}"
            own = f"# {name} {index}\n".encode()
            if self.random.random() < self.options.prefix_files:
                own += b"# made in " + self.prefix_bytes + b"\n"
            data = source + own
            files.append(self._file(f"{place}/module{index}.py", data))
            if index < int(left * BYTECODE):
                module = str(self.prefix / place / f"module{index}.py")
                header = MAGIC_NUMBER + bytes(4) + _u32(1_700_000_000) + _u32(len(data))
                path = f"{place}/__pycache__/module{index}.cpython-311.pyc"
                self._file(path, header + marshal.dumps(_named(code, module)))
                files.append((path, b""))
        self._record(name, site, files, conda)

    @property
    def prefix_bytes(self) -> bytes:
        return os.fsencode(self.prefix)

    def _file(self, path: str, data: bytes, mode: int = 0o644) -> tuple[str, bytes]:
        """Write a file; return its path and its content."""
        place = self.prefix / path
        try:
            place.write_bytes(data)
        except FileNotFoundError:
            place.parent.mkdir(parents=True)
            place.write_bytes(data)
        place.chmod(mode)
        os.utime(place, (1_700_000_000, 1_700_000_000))
        return path, data

    def _library(self, size: int) -> bytes:
        """Return a library: an ELF header, machine code, and noise."""
        noise = int(size * self.options.incompressible)
        parts = [_ELF]
        left = size - noise
        while left > 0:
            start = self.random.randrange(len(self.code))
            parts.append(self.code[start : start + left])
            left -= len(parts[-1])
        if self.random.random() < self.options.prefix_bytes:
            room = self.prefix_bytes + b"/lib"
            parts.append(b"\0" + room + b"\0" * max(1, ROOM + 5 - len(room)))
        parts.extend(self.random.randbytes(min(1 << 20, noise - at)) for at in range(0, noise, 1 << 20))
        return b"".join(parts)

    def _record(self, name: str, site: str, files: list[tuple[str, bytes]], conda: bool) -> None:
        if not conda:
            info = f"{site}/{name}-1.0.dist-info"
            self._file(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode())
            self._file(f"{info}/INSTALLER", b"pip\n")
            listed = [*(path for path, _ in files), f"{info}/METADATA", f"{info}/INSTALLER", f"{info}/RECORD"]
            lines = (f"{os.path.relpath(path, site)},,\n" for path in listed)
            self._file(f"{info}/RECORD", "".join(lines).encode())
            return
        paths = [path for path, _ in files if not path.endswith(".pyc")]
        record = {
            **{"name": name, "version": "1.0", "build": "0", "build_number": 0, "depends": []},
            **{"subdir": "linux-64", "channel": "synthetic", "fn": f"{name}-1.0-0.conda", "url": ""},
            **{"files": paths, "link": {"source": "", "type": 1}},
            "paths_data": {"paths_version": 1, "paths": list(self._published(files))},
        }
        self._file(f"conda-meta/{name}-1.0-0.json", json.dumps(record, indent=1).encode())

    def _published(self, files: list[tuple[str, bytes]]) -> Iterator[dict[str, object]]:
        """conda's records: digests with the placeholder in place of the path, as the package had it."""
        placeholder = "/placeholder_" * 19 + "/placehol"
        for path, data in files:
            if path.endswith(".pyc"):
                continue
            record: dict[str, object] = {"_path": path, "path_type": "hardlink"}
            original = data
            if self.prefix_bytes in data and not path.endswith(".so"):
                original = data.replace(self.prefix_bytes, placeholder.encode())
                record |= {"prefix_placeholder": placeholder, "file_mode": "text"}
                record["sha256_in_prefix"] = hashlib.sha256(data).hexdigest()
            yield record | {"sha256": hashlib.sha256(original).hexdigest(), "size_in_bytes": len(original)}


_ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\0\x3e\0\x01\0\0\0" + bytes(28) + b"\x40\0\0\0\0\0\0\0\0\0\0\0"
"""A 64-bit shared object for x86-64 without segments and sections (elf(5))."""


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _words(chance: random.Random, count: int) -> list[str]:
    syllables = [
        "ba",
        "co",
        "de",
        "fi",
        "gu",
        "ha",
        "lo",
        "ma",
        "ne",
        "pi",
        "qua",
        "ra",
        "se",
        "ti",
        "un",
        "ver",
        "wo",
        "ex",
        "con",
        "st",
    ]
    return ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(count)]


def _modules(chance: random.Random, mean: int, count: int) -> list[tuple[bytes, CodeType]]:
    """Return modules of about ``mean`` bytes, with their code."""
    words = _words(chance, 3000)
    weights = [1 / (rank + 5) for rank in range(len(words))]
    done = []
    for number in range(count):
        size = mean * chance.lognormvariate(0, 1) / 1.65
        lines = [f'"""{" ".join(chance.choices(words, weights, k=12))}."""\n\n']
        total = 0
        while total < size:
            some = chance.choices(words, weights, k=40)
            lines.append(
                f"def do_{some[0]}(a_{some[1]}, a_{some[2]}2=None):\n"
                f'    """{" ".join(some[3:27])}."""\n'
                f"    x_{some[28]} = a_{some[1]}.{some[29]}({chance.randrange(1000)}, '{some[30]} {some[31]}')\n"
                f"    if x_{some[28]} is not {some[32]}1:\n"
                f"        return [{some[33]}0(k) for k in x_{some[28]}.do_{some[34]}(a_{some[2]}2)]\n"
                f"    return {{'{some[35]}': x_{some[28]}, '{some[36]}2': {some[37]}3.{some[38]}}}\n\n\n"
            )
            total += len(lines[-1])
        source = "".join(lines)
        done.append((source.encode(), compile(source, f"module{number}.py", "exec", dont_inherit=True)))
    return done


def _named(code: CodeType, path: str) -> CodeType:
    """``code`` as if compiled from ``path``."""
    constants = tuple(_named(each, path) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_filename=path, co_consts=constants)


def _machine_code(chance: random.Random, size: int) -> bytes:
    """Return bytes that compress like x86-64 code: blocks of instructions, a few frequent, many rare."""
    instructions = [chance.randbytes(chance.randint(1, 7)) for _ in range(6000)]
    often = [1 / (rank + 30) for rank in range(len(instructions))]
    blocks = [b"".join(chance.choices(instructions, often, k=chance.randint(1, 8))) for _ in range(1200)]
    return b"".join(chance.choices(blocks, often[: len(blocks)], k=size // 18))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*RECIPES, "synthetic"])
    parser.add_argument("--folder", type=Path, default=FOLDER / "environments", help="directory to create it in")
    add_options(parser)
    arguments = parser.parse_args()
    print(named(arguments.what, arguments.folder.resolve(), arguments))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a synthetic environment."""
    default = Synthetic()
    parser.add_argument("--size", type=float, default=default.size, help="size in GB")
    parser.add_argument("--files", type=int, default=default.files)
    parser.add_argument(
        "--prefix-files",
        type=float,
        default=default.prefix_files,
        help="share of modules with the prefix, 0 to 1",
    )
    parser.add_argument(
        "--prefix-bytes",
        type=float,
        default=default.prefix_bytes,
        help="share of libraries with the prefix",
    )
    parser.add_argument(
        "--incompressible",
        type=float,
        default=default.incompressible,
        help="share of the bytes of libraries that can't be compressed",
    )
    parser.add_argument("--seed", type=int, default=default.seed)


def named(what: str, folder: Path, options: argparse.Namespace) -> Path:
    """Return the path of an environment, and create it if it does not exist.

    Args:
        what: A, B or synthetic.
        folder: The folder of environments.
        options: The options of a synthetic environment.
    """
    if what in RECIPES:
        return make(folder / what, RECIPES[what])
    synthetic = Synthetic(
        options.size,
        options.files,
        options.prefix_files,
        options.prefix_bytes,
        options.incompressible,
        options.seed,
    )
    return make(folder / synthetic.name, synthetic)


if __name__ == "__main__":
    main()

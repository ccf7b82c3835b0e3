"""A spec is read as conda reads it, and all mistakes are reported together, with file and line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from envpack.runtime.errors import SpecError
from envpack.spec.model import DEFAULT_VERSION, EnvSpec
from envpack.spec.nodes import read_text
from envpack.spec.parse import parse_spec
from envpack.spec.pip_lines import parse_line, parse_lines
from support.reporters import RecordingReporter

SPECS = sorted((Path(__file__).resolve().parents[3] / "envspecs").glob("*.yml"))

FULL = """\
name: demo
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - conda-forge::numpy >=1.26,<2
  - pip
  - pip:
      - --extra-index-url https://example.org/simple?a=b
      - -r more.txt
      - flask[async]==2.3.3 ; python_version > "3.8"  # why
      - ./local
variables: {A: one, B: 2, C: 1.5}
prefix: /home/somebody/envs/demo
envpack:
  version: "1.10"
  platform: linux-64
  requires: {cuda: 11.8, driver: ">= 450.80.02", gpu_memory: 40 GB, memory: 64GiB, cpus: 16}
  exclude: ["share/doc/**"]
  include: [share/doc/demo/LICENSE]
  prune: [tests, bytecode]
  test: ["python -c 'import numpy'"]
  commands: {serve: uvicorn app:app}
  files: {etc/app.yml: config/app.yml}
  activate: [scripts/env.sh, scripts/env.fish]
  app: ../src
"""


def test_everything_a_spec_can_say_is_read():
    spec = parse_spec(FULL, "specs/demo.yml")
    assert spec.name == "demo"
    assert spec.channels == ("conda-forge", "nodefaults")
    assert spec.dependencies == ("python=3.11", "conda-forge::numpy >=1.26,<2", "pip")
    assert spec.pip == (
        "--extra-index-url https://example.org/simple?a=b",
        "-r more.txt",
        'flask[async]==2.3.3 ; python_version > "3.8"',
        "./local",
    )
    assert spec.variables == {"A": "one", "B": "2", "C": "1.5"}
    assert (spec.version, spec.platform) == ("1.10", "linux-64")
    assert spec.exclude == ("share/doc/**",)
    assert spec.include == ("share/doc/demo/LICENSE",)
    assert spec.prune == ("tests", "bytecode")
    assert spec.test == ("python -c 'import numpy'",)
    assert spec.commands == {"serve": "uvicorn app:app"}
    assert spec.files == {"etc/app.yml": "config/app.yml"}
    assert spec.activate == ("scripts/env.sh", "scripts/env.fish")
    assert spec.app == {"app": "../src"}
    assert spec.directory == Path("specs")


def test_requirements_keep_their_text_and_know_their_number():
    requires = parse_spec(FULL, "demo.yml").requires
    values = {name: need.minimum for name, need in requires.minimums.items()}
    assert values == {
        "cuda": "11.8",
        "driver": "450.80.02",
        "gpu_memory": 40 * 10**9,
        "memory": 64 * 2**30,
        "cpus": 16,
    }
    driver = requires.minimums["driver"]
    assert (driver.text, driver.version) == (">= 450.80.02", (450, 80, 2))
    assert requires.get("glibc") is None


def test_a_spec_survives_json_with_the_same_digest():
    spec = parse_spec(FULL, "specs/demo.yml")
    again = EnvSpec.from_dict(spec.as_dict())
    assert again == spec
    assert again.digest() == spec.digest()
    assert parse_spec(FULL.replace("uvicorn", "gunicorn"), "demo.yml").digest() != spec.digest()


@pytest.mark.parametrize("text", ["dependencies: []\n", "dependencies:\n", "channels: [defaults]\n"])
def test_a_spec_may_be_nearly_empty_and_is_then_named_after_its_file(text):
    spec = parse_spec(text, "envs/my env.prod.yml")
    assert (spec.name, spec.dependencies, spec.version) == ("my-env", (), DEFAULT_VERSION)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_of_the_project_is_valid(path):
    spec = parse_spec(path.read_text(encoding="utf-8"), str(path))
    assert spec.name == path.stem
    assert spec.dependencies


@pytest.mark.parametrize("path", [path for path in SPECS if path.stem != "demo"], ids=lambda path: path.stem)
def test_the_systems_say_what_their_services_need_and_test_it(path):
    spec = parse_spec(read_text(path), str(path))
    assert "headers" not in spec.prune  # what compiles at run time needs Python.h
    assert spec.services["serve"].port
    assert spec.services["serve"].ready
    assert set(spec.services["serve"].mounts) == set(spec.mounts)
    tests = "\n".join(spec.test)
    assert "import torch" in tests
    assert "torch.compile" in tests or spec.name == "pytorch-serving"
    programs = [name for name in ("ffmpeg", "ffprobe") if any("ffmpeg" in line for line in spec.dependencies)]
    assert all(name in tests for name in programs)
    for line in spec.test:
        assert subprocess.run(["sh", "-n", "-c", line]).returncode == 0


WRONG = [
    (
        "envpack: {files: {/etc/app.yml: x}}\n",
        "e.yml:1: files '/etc/app.yml': expected a path in the environment, such as etc/app.yml",
    ),
    (
        "envpack: {files: {etc/app.yml: ''}}\n",
        "e.yml:1: files etc/app.yml is empty, expected the path of a file or directory",
    ),
    (
        "envpack: {app: {../x: src}}\n",
        "e.yml:1: app '../x': expected a path in the environment, such as etc/app.yml",
    ),
    ("envpack: {app: ' '}\n", "e.yml:1: app is empty, expected a directory such as src"),
    ("envpack: {app: [src]}\n", "e.yml:1: app is a list, expected text"),
    (
        "envpack: {activate: [env.bash]}\n",
        "e.yml:1: activate 'env.bash': expected a script with the suffix .sh, .fish or .csh",
    ),
    ("", "e.yml:1: the spec is empty, expected name, channels and dependencies"),
    ("- python\n", "e.yml:1: the spec is a list, expected a mapping with dependencies"),
    ("name: a\nchanels: []\n", "e.yml:2: 'chanels' is not a key of a spec; did you mean 'channels'?"),
    ("name: a\nrequires: {}\n", "e.yml:2: 'requires' is not a key of a spec; it belongs under 'envpack:'"),
    ("name: a\npip: [x]\n", "e.yml:2: 'pip' is not a key of a spec; it belongs under 'dependencies:'"),
    (
        "services: {}\n",
        "e.yml:1: 'services' is not a key of a spec; expected one of name, channels, dependencies, "
        "pip-repositories, allow-pypi-requests, variables, prefix, envpack",
    ),
    ("name: a\nname: b\n", "e.yml:2: 'name' is given twice in the spec, first in line 1"),
    ("name: a/b\n", "e.yml:1: name is 'a/b', expected letters, digits and . _ + - only"),
    ("name: '*'\n", "e.yml:1: name is '*', expected letters, digits and . _ + - only"),
    (
        "name: scpca-{{ module }}\n",
        "e.yml:1: name is 'scpca-{{ module }}': the file is a template, expected one with the values filled in",
    ),
    ("name: [a]\n", "e.yml:1: name is a list, expected text"),
    (
        "channels: conda-forge\n",
        "e.yml:1: channels is 'conda-forge', expected a list ('- item' on lines of their own)",
    ),
    ("dependencies: python\n", "e.yml:1: dependencies is 'python', expected a list ('- python=3.11')"),
    (
        "dependencies:\n  - python: 3.10\n",
        "e.yml:2: 'python: 3.10' is a mapping, expected text such as 'python=3.10', or a 'pip:' list",
    ),
    (
        "dependencies:\n  - 3.10\n",
        'e.yml:2: a dependency is 3.10 without quotes, which YAML reads as the number 3.1: write "3.10"',
    ),
    (
        "dependencies:\n  - numpy >=1,\n",
        "e.yml:2: 'numpy >=1,' is not a conda requirement (unable to parse version spec: >=1,); expected a conda "
        "package such as python, python=3.11, 'numpy >=1.26,<2' or conda-forge::numpy",
    ),
    (
        "dependencies:\n  - numpy ==1.0; python_version<'3'\n",
        "e.yml:2: \"numpy ==1.0; python_version<'3'\" is not a conda requirement; expected a conda package "
        "such as python, python=3.11, 'numpy >=1.26,<2' or conda-forge::numpy; a pip requirement belongs in the "
        "'pip:' list",
    ),
    (
        "dependencies:\n  - sel(bsd): a\n",
        "e.yml:2: 'sel(bsd): a' is a mapping, expected text such as 'sel(bsd)=a', or a 'pip:' list",
    ),
    (
        "dependencies:\n  - pip:\n      - foo bar\n",
        "e.yml:3: 'foo bar': expected a pip requirement such as flask==2.3.3, a path, a URL or an option "
        "(Expected semicolon (after name with no version specifier) or end)",
    ),
    (
        "dependencies:\n  - pip:\n      - --index-ur https://example.org\n",
        "e.yml:3: '--index-ur https://example.org': --index-ur is not an option of a requirements file; "
        "did you mean '--index-url'?",
    ),
    ("dependencies:\n  - pip:\n      - -r\n", "e.yml:3: '-r': expected a value after -r"),
    (
        "variables:\n  A: 1.10\n",
        'e.yml:2: variable A is 1.10 without quotes, which YAML reads as the number 1.1: write "1.10"',
    ),
    ("variables:\n  A: yes\n", 'e.yml:2: variable A is yes without quotes, expected text: write "yes"'),
    ("variables:\n  A-B: x\n", "e.yml:2: 'A-B' is not a valid name of a variable, expected letters, digits and _"),
    (
        "variables:\n  PWD: x\n",
        "e.yml:2: 'PWD' is reserved for shells and activation scripts, expected another name",
    ),
    (
        "envpack:\n  version: 1.10\n",
        'e.yml:2: version is 1.10 without quotes, which YAML reads as the number 1.1: write "1.10"',
    ),
    ("envpack:\n  versoin: 1\n", "e.yml:2: 'versoin' is not a key of 'envpack:'; did you mean 'version'?"),
    (
        "envpack:\n  platform: linux64\n",
        "e.yml:2: platform 'linux64' is not supported; expected linux-64 or linux-aarch64",
    ),
    (
        "envpack:\n  platform: win-64\n",
        "e.yml:2: platform 'win-64' is not supported; expected linux-64 or linux-aarch64",
    ),
    (
        "envpack:\n  requires:\n    cuds: 11.8\n",
        "e.yml:3: 'cuds' is not a known requirement; did you mean 'cuda'?",
    ),
    (
        "envpack:\n  requires:\n    memory: 64\n",
        'e.yml:3: requires memory is \'64\', expected a size with its unit such as "40 GB" or "64 GiB"',
    ),
    (
        "envpack:\n  requires:\n    disk: 6 gold\n",
        "e.yml:3: requires disk is '6 gold', 'gold' is not a unit; expected a size with its unit such as "
        '"40 GB" or "64 GiB"',
    ),
    (
        "envpack:\n  requires:\n    glibc: newest\n",
        "e.yml:3: requires glibc is 'newest', expected a minimum version such as \"2.28\"",
    ),
    (
        "envpack:\n  requires:\n    cpus: 0\n",
        "e.yml:3: requires cpus is '0', expected a number of cores such as 16",
    ),
    ("envpack:\n  prune: [test]\n", "e.yml:2: 'test' is not a prune profile; did you mean 'tests'?"),
    (
        "envpack:\n  exclude: [../x]\n",
        "e.yml:2: '../x' is not a path in the environment, expected one such as share/doc/**",
    ),
    (
        "envpack:\n  commands: {a b: x}\n",
        "e.yml:2: command 'a b': expected a name of letters, digits and . _ + - only",
    ),
    ("envpack:\n  test: ['']\n", "e.yml:2: a test command is empty"),
]


def test_what_conda_ignores_in_a_spec_is_ignored_with_a_warning():
    reporter = RecordingReporter()
    text = """name: a
dependencies:
  - uvicorn[standard] >=0.12,<0.18
  - forge::black[d, jupyter]
  - torchvision[channel=pytorch]
extras: {x: y}
platform: [linux-64, osx-arm64]
"""
    spec = parse_spec(text, "e.yml", reporter)
    assert spec.dependencies == ("uvicorn >=0.12,<0.18", "forge::black", "torchvision[channel=pytorch]")
    extras = "e.yml:{}: {!r}: conda packages have no extras, so {} is ignored, as conda ignores it; list the "
    advice = "packages of the extra too, or move the line to the 'pip:' list"
    assert reporter.warnings == [
        extras.format(3, "uvicorn[standard] >=0.12,<0.18", "[standard]") + advice,
        extras.format(4, "forge::black[d, jupyter]", "[d, jupyter]") + advice,
        "e.yml:6: 'extras' is not a key of a spec; it is ignored, as conda ignores it",
        "e.yml:7: 'platform' is not a key of a spec; it is ignored, as conda ignores it",
    ]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("constructor=>3.1", "constructor >=3.1"),
        ("constructor=>3.1*", "constructor >=3.1"),
        ("constructor=<3.1*", "constructor <3.1"),
        ("pytorch=>2.1=*cuda*", "pytorch >2.1 *cuda*"),
        ("pytorch =>2.1 py3_0", "pytorch >2.1 py3_0"),
        ("forge::numpy =<2", "forge::numpy <2"),
        ("python==>=3.8,<4", "python >=3.8,<4"),
    ],
)
def test_a_comparison_behind_an_equals_sign_is_read_as_conda_reads_it(written, read):
    reporter = RecordingReporter()
    spec = parse_spec(f"dependencies:\n  - {written}\n", "e.yml", reporter)
    assert spec.dependencies == (read,)
    assert reporter.warnings == [f"e.yml:2: {written!r} is read as {read!r}, as conda reads it"]


@pytest.mark.parametrize(
    "written", ["python=>=3.8", "pkg=!=1", "pkg=<=2", "pkg=~=1", "pkg=>3,<4", "pkg=<2|>3", "pkg==>=3=x"]
)
def test_a_comparison_behind_an_equals_sign_that_conda_refuses_is_refused(written):
    with pytest.raises(SpecError, match=r"e\.yml:2: .* is not a conda requirement"):
        parse_spec(f"dependencies:\n  - {written}\n", "e.yml")


@pytest.mark.parametrize(
    ("written", "name"),
    [("my env", "my-env"), ("/data/envs/demo", "demo"), ("/data/my env/", "my-env"), ("-c++ (gpu)", "c++-gpu")],
)
def test_a_name_that_conda_or_mamba_takes_is_adapted_with_a_warning(written, name):
    reporter = RecordingReporter()
    assert parse_spec(f"name: {written}\n", "e.yml", reporter).name == name
    assert reporter.warnings == [
        f"e.yml:1: name is {written!r}; a name has letters, digits and . _ + - only, so the environment is named "
        f"{name!r}"
    ]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message.split(": ", 1)[1][:40] for _, message in WRONG])
def test_a_mistake_is_reported_with_its_line_and_what_was_expected(text, message):
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "e.yml")
    assert caught.value.message == message
    assert caught.value.code == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: demo\nchannels:\n\t- conda-forge\n", 3),
        ("name: demo\ndependencies: [python\n", 3),
        ("name: {a: b\nx: *y\n", 2),
        ("name: a\n---\nname: b\n", 2),
    ],
)
def test_broken_yaml_is_reported_with_its_line(text, line):
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "e.yml")
    assert caught.value.message.startswith(f"e.yml:{line}: not valid YAML at ")


def test_all_mistakes_are_reported_at_once_in_the_order_of_lines():
    text = "chanels: []\ndependencies:\n  - 3.10\n  - a: b\nenvpack:\n  prune: [dcos]\n"
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "e.yml")
    assert "4 mistakes" in caught.value.message
    assert [line.split(":")[1] for line in caught.value.details] == ["1", "3", "4", "6"]


@pytest.mark.parametrize(
    ("text", "option", "value"),
    [
        ("-i https://a/b", "--index-url", "https://a/b"),
        ("--index-url=https://a/?b=c", "--index-url", "https://a/?b=c"),
        ("-rmore.txt", "--requirement", "more.txt"),
        ("-e ./here", "--editable", "./here"),
        ("--no-index", "--no-index", ""),
        ("-f  wheels # local", "--find-links", "wheels"),
    ],
)
def test_pip_options_are_read_in_every_form_pip_takes(text, option, value):
    (line,) = parse_line(text)
    assert (line.option, line.value) == (option, value)


@pytest.mark.parametrize(
    ("text", "one", "other"),
    [
        ("flash-attn --no-build-isolation", "flash-attn", "--no-build-isolation"),
        ("torch==2.7 --index-url https://h/simple", "torch==2.7", "--index-url https://h/simple"),
        ("x[fast]>=1 -f ./wheels", "x[fast]>=1", "-f ./wheels"),
    ],
)
def test_an_option_behind_a_requirement_belongs_on_a_line_of_its_own(text, one, other):
    with pytest.raises(ValueError, match="line of their own") as caught:
        parse_line(text)
    assert str(caught.value).endswith(f"'- {one}' and '- {other}'")


@pytest.mark.parametrize(
    ("text", "requirement"),
    [
        ("-e git+https://h/a/b@v1#egg=tool", "tool @ git+https://h/a/b@v1"),
        (
            "--editable=git+ssh://git@h/b.git#egg=tool[fast]&subdirectory=py",
            "tool[fast] @ git+ssh://git@h/b.git#subdirectory=py",
        ),
        ("-e git+file:///srv/b@HEAD#egg=tool", "tool @ git+file:///srv/b"),
        ("-e git+https://h/b.git", "git+https://h/b.git"),
        ("tool @ git+https://h/b@HEAD ; python_version > '3'", "tool @ git+https://h/b ; python_version > '3'"),
    ],
)
def test_an_editable_repository_is_a_requirement_at_its_url(text, requirement):
    (line,) = parse_lines([text])
    assert (line.text, line.option) == (requirement, "")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Flask_Login==0.6 --hash=sha256:00", "flask-login"),
        ("torch @ https://example.org/torch.whl", "torch"),
        ("./torch-2.0-py3-none-any.whl", ""),
        ("git+https://example.org/x.git@main", ""),
        ("${PRIVATE}/x.whl", ""),
    ],
)
def test_the_project_a_pip_line_asks_for_is_known_where_it_can_be(text, name):
    (line,) = parse_line(text)
    assert line.name == name


def test_repositories_of_conda_lock_are_further_indexes():
    text = "dependencies: [python]\npip-repositories: ['https://$PIP_USER:$PIP_PASSWORD@h/simple']\n"
    assert parse_spec(text, "e.yml").pip == ("--extra-index-url https://${PIP_USER}:${PIP_PASSWORD}@h/simple",)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "2001-02-30",
            "!!bool maybe",
            "!!int abc",
            "!!int ''",
            "!!binary x",
            "=",
            "<<",
            "!!timestamp x",
            "!!float x",
        ),
        *(
            "1" + "0" * 5000,
            "0x" + "f" * 5000,
            "190:20:30",
            '"a\\0b"',
            '"\\ud800"',
            '{"a\\0b": c}',
            "!!python/name:x",
        ),
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "dependencies: [python]\nenvpack: {version: VALUE}\n",
        "dependencies: [python]\nname: VALUE\n",
        "dependencies: [python]\nvariables: {A: VALUE}\n",
        "dependencies: [python]\nenvpack: {test: [VALUE]}\n",
        *(f"dependencies: [python]\nenvpack: {{requires: {{{name}: VALUE}}}}\n" for name in ("glibc", "cuda")),
        "dependencies: [python]\nenvpack: {mounts: {/a: {size: VALUE}}}\n",
        "dependencies: [VALUE]\n",
        "dependencies: [python]\nchannels: [VALUE]\n",
    ],
)
def test_values_that_yaml_can_not_construct_are_the_spec_s_fault(text: str, value: str) -> None:
    with pytest.raises(SpecError, match=r"s\.yml") as caught:
        parse_spec(text.replace("VALUE", value), "s.yml")
    assert len(caught.value.message) < 700


@pytest.mark.parametrize("nested", ["[", "{a: "])
def test_values_that_are_nested_too_deep_for_yaml_are_the_spec_s_fault(nested: str) -> None:
    """They are refused before it matters where they stand."""
    with pytest.raises(SpecError, match=r"s\.yml") as caught:
        parse_spec(f"dependencies: [{nested * 5000}]\n", "s.yml")
    assert len(caught.value.message) < 700


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'files: {"etc/a\\0b": a}',
            r"e.yml:3: files has the key 'etc/a\x00b' with a NUL character, expected a name",
        ),
        ('"test\\0": a', r"e.yml:3: envpack has the key 'test\x00' with a NUL character, expected a name"),
        ("requires: {memory: '9223372036854775808 B'}", "a size that no host has; expected less than 8 EiB"),
        (f"requires: {{memory: '{'9' * 400} GB'}}", "9...', a size that no host has; expected less than 8 EiB"),
        (
            f"mounts: {{/a: {{size: '{'9' * 400} GB'}}}}",
            "9...', a size that no host has; expected less than 8 EiB",
        ),
        (f"requires: {{cpus: '{'9' * 400}'}}", "9...', expected a number of cores such as 16"),
        (f"requires: {{cuda: '{'9' * 400}'}}", '9...\', expected a minimum version such as "11.8"'),
        (f"requires: {{cuda: 'cuda>={'9' * 400}'}}", "is not a version"),
    ],
)
def test_values_that_nothing_could_use_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(f"dependencies: [python]\nenvpack:\n  {text}\n", "e.yml")
    assert caught.value.message.endswith(message)
    assert caught.value.message.startswith("e.yml:3: ")


def test_the_largest_size_is_accepted() -> None:
    size = parse_spec("dependencies: []\nenvpack: {requires: {memory: 8388607 TiB}}\n", "e.yml").requires.get(
        "memory"
    )
    assert size is not None
    assert size.minimum == 8388607 * 2**40


def test_characters_may_be_escaped_as_json_escapes_them() -> None:
    spec = parse_spec(
        json.dumps(
            {
                "dependencies": ["python"],
                "variables": {"A": "\U0001f600"},
                "envpack": {"test": ["echo \U0001f600"]},
            }
        ),
        "e.yml",
    )
    assert (spec.variables, spec.test) == ({"A": "\U0001f600"}, ("echo \U0001f600",))
    spec = parse_spec('envpack: {files: {"etc/\\ud83d\\ude00": "\\U0001f600"}}\ndependencies: []\n', "e.yml")
    assert spec.files == {"etc/\U0001f600": "\U0001f600"}


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\ude00\\ud83d"', '"\\ud83d \\ude00"', '"\\ud800": a'])
def test_half_of_a_pair_of_surrogates_is_no_text(text: str) -> None:
    with pytest.raises(SpecError, match=r"^e\.yml:3: not valid YAML at .*: half of a pair of surrogates"):
        parse_spec(f"dependencies:\n- python\n- {text}\n", "e.yml")


def test_a_file_with_a_nul_is_no_spec(tmp_path: Path) -> None:
    (tmp_path / "s.yml").write_bytes(b"name: x\ndependencies: [a\0b]\n")
    with pytest.raises(SpecError, match=r"s\.yml:2: a NUL character"):
        read_text(tmp_path / "s.yml")

"""The arguments of the solver and of uv: the target of the spec, the order of indexes, the exact files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from envpack.build.backends import install_failure
from envpack.build.pip import pylock
from envpack.lock.failures import uv_failure
from envpack.lock.included_files import with_included_options
from envpack.lock.inputs import load_input
from envpack.lock.model import LockedPypi
from envpack.lock.pip import _best_wheel, _locked, conda_distributions, replaced_by_pip, wheel_tags
from envpack.lock.solve import channel_failure, match_specs
from envpack.lock.target import channel_names, spec_channels, virtual_package_texts
from envpack.lock.uvtool import index_arguments, run_uv, uv_environment, without_indexes
from envpack.runtime.errors import SpecError
from envpack.runtime.transport.redact import without_secrets
from envpack.spec.credentials import without_credentials
from envpack.spec.model import EnvSpec
from envpack.spec.parse import parse_spec
from envpack.spec.pip_lines import parse_lines
from envpack.spec.requires import Requires

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STRATEGY = ["--index-strategy", "unsafe-best-match"]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    for name in ("CONDARC", "MAMBARC", "CONDA_PREFIX", "CONDA_EXE", "MAMBA_ROOT_PREFIX", "CONDA_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "DEFAULT_INDEX", "INDEX", "INDEX_STRATEGY"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
        monkeypatch.delenv(f"UV_{name}", raising=False)


@pytest.mark.parametrize(
    ("platform", "requires", "expected"),
    [
        ("linux-64", {}, "__unix=0=0 __linux=4.18=0 __glibc=2.28=0 __archspec=1=x86_64"),
        (
            "linux-64",
            {"glibc": "2.17", "cuda": ">=11.8"},
            "__unix=0=0 __linux=3.10=0 __glibc=2.17=0 __archspec=1=x86_64 __cuda=11.8=0",
        ),
        ("linux-aarch64", {"glibc": "2.35"}, "__unix=0=0 __linux=4.18=0 __glibc=2.35=0 __archspec=1=aarch64"),
    ],
)
def test_the_solver_gets_the_target_of_the_spec(platform, requires, expected):
    assert virtual_package_texts(platform, Requires.from_dict(requires)) == expected.split()


def test_channels_are_those_of_conda_and_relative_ones_start_at_the_spec(tmp_path):
    names = channel_names(["mine", "defaults", "nodefaults", "mine"])
    assert names == ["mine", "https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"]
    text = "channels: [./local, conda-forge]\ndependencies: ['bioconda::x', 'conda-forge::y']\n"
    spec = parse_spec(text, str(tmp_path / "e.yml"))
    assert [channel.base_url for channel in spec_channels(spec)] == [
        f"{(tmp_path / 'local').as_uri()}/",
        "https://conda.anaconda.org/conda-forge/",
        "https://conda.anaconda.org/bioconda/",
    ]


def test_variables_in_the_channels_of_a_spec_are_those_of_the_user_and_are_not_in_its_digest(monkeypatch):
    spec = parse_spec("channels: ['https://a/${PLACE}/$LABEL', 'https://a/t/${TOKEN}/c']\n", "e.yml")
    digest = spec.digest()
    for name, value in {"PLACE": "b", "LABEL": "main", "TOKEN": "t0ken"}.items():
        monkeypatch.setenv(name, value)
    assert [channel.base_url for channel in spec_channels(spec)] == ["https://a/b/main/", "https://a/t/t0ken/c/"]
    assert spec.digest() == digest
    monkeypatch.delenv("TOKEN")
    with pytest.raises(SpecError) as caught:
        spec_channels(spec)
    assert caught.value.message == "the channel https://a/t/***/c needs the variable TOKEN, which is not set"


def test_channels_given_replace_also_those_named_in_a_dependency(tmp_path):
    spec = parse_spec("dependencies: ['bioconda::x >=1']\n", "e.yml")
    (channel,) = spec_channels(spec, [tmp_path.as_uri()])
    assert channel.base_url == f"{tmp_path.as_uri()}/"
    assert [str(spec) for spec in match_specs(spec, any_channel=True)] == ["x >=1"]
    assert [str(spec) for spec in match_specs(spec, any_channel=False)] == ["bioconda::x >=1"]


def test_a_spec_without_channels_uses_conda_forge():
    (channel,) = spec_channels(EnvSpec(name="x"))
    assert channel.base_url.endswith("/conda-forge/")


@pytest.mark.parametrize(
    ("lines", "index_url", "settings", "expected"),
    [
        ([], None, {}, []),
        (["-i https://a/s"], None, {}, ["--index-url", "https://a/s"]),
        (["-i https://a/s"], "https://b/s", {}, ["--index-url", "https://b/s"]),
        ([], None, {"PIP_INDEX_URL": "https://p/s"}, ["--index-url", "https://p/s"]),
        (["-i https://a/s"], None, {"PIP_INDEX_URL": "https://p/s"}, ["--index-url", "https://a/s"]),
        ([], None, {"PIP_INDEX_URL": "https://p/s", "UV_DEFAULT_INDEX": "https://u/s"}, []),
        (
            ["--extra-index-url=https://a/s", "-f wheels"],
            None,
            {"PIP_EXTRA_INDEX_URL": "https://p/1 https://p/2", "PIP_FIND_LINKS": "/w"},
            [
                "--extra-index-url",
                "https://a/s",
                "--find-links",
                "wheels",
                "--extra-index-url",
                "https://p/1",
                "--extra-index-url",
                "https://p/2",
                "--find-links",
                "/w",
            ],
        ),
        (
            ["--no-index"],
            None,
            {"PIP_INDEX_URL": "https://p/s", "PIP_FIND_LINKS": "/w"},
            ["--no-index", "--find-links", "/w"],
        ),
        (["--trusted-host h"], None, {}, ["--allow-insecure-host", "h"]),
    ],
)
def test_indexes_come_from_the_command_then_the_spec_then_pips_settings(
    lines, index_url, settings, expected, monkeypatch
):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert index_arguments(parse_lines(lines), index_url) == expected + STRATEGY


def test_variables_in_urls_of_indexes_are_replaced_as_by_pip(monkeypatch):
    monkeypatch.setenv("INDEX_PASSWORD", "secret")
    lines = parse_lines(["-i https://me:${INDEX_PASSWORD}@h/simple", "--extra-index-url https://${UNSET_NAME}/s"])
    expected = ["--index-url", "https://me:secret@h/simple", "--extra-index-url", "https://${UNSET_NAME}/s"]
    assert index_arguments(lines, None) == expected + STRATEGY


def test_urls_of_indexes_are_no_arguments_of_uv(monkeypatch, tmp_path):
    program = tmp_path / "uv"
    program.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$*"; env | grep ^UV_INDEX_URL; env | grep ^UV_EXTRA; env | grep ^UV_FIND\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(program))
    lines = ["-i https://me:s3cret@h/simple", "--extra-index-url https://u:p@a/s", "--extra-index-url https://b/s"]
    args = index_arguments(parse_lines([*lines, "-f https://u:p@h/links"]), None)
    assert run_uv(["pip", "compile", *args], "it failed", cwd=tmp_path).splitlines() == [
        f"pip compile {' '.join(STRATEGY)}",
        "UV_INDEX_URL=https://me:s3cret@h/simple",
        "UV_EXTRA_INDEX_URL=https://u:p@a/s https://b/s",
        "UV_FIND_LINKS=https://u:p@h/links",
    ]
    assert without_indexes(["--find-links", "/a,b", "--find-links", "/c"])[1] == {}


def test_uv_trusts_the_authorities_that_pip_trusts(monkeypatch, tmp_path):
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    own, curls = tmp_path / "own.pem", tmp_path / "curl.pem"
    own.touch()
    curls.touch()
    monkeypatch.setenv("PIP_CERT", str(own))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(curls))
    assert uv_environment()["SSL_CERT_FILE"] == str(own)
    own.unlink()
    assert uv_environment()["SSL_CERT_FILE"] == str(curls)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert "SSL_CERT_FILE" not in uv_environment()


def record(name: str, version: str, *depends: str) -> SimpleNamespace:
    return SimpleNamespace(name=SimpleNamespace(normalized=name), version=version, depends=list(depends))


def test_conda_packages_that_run_on_python_count_under_their_name_on_pypi():
    records = [
        record("python", "3.11.7", "libzlib"),
        record("pytorch", "2.0.1", "python >=3.10,<3.11.0a0", "numpy"),
        record("Ruamel_Yaml".lower(), "0.18", "python"),
        record("python_abi", "3.11", "cpython 3.11.*"),
        record("zlib", "1.3", "libzlib", "pythonish"),
    ]
    assert conda_distributions(records) == {"torch": "2.0.1", "ruamel-yaml": "0.18"}


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("numpy", False),
        ("numpy>=1.26", False),
        ("numpy==1.26.4", True),
        ("NumPy <2", True),
        ("numpy @ https://example.org/numpy.zip", True),
        ("scipy==1", False),
        ("--pre", False),
    ],
)
def test_only_a_section_that_asks_for_another_version_replaces_what_conda_gives(line, asked):
    assert bool(replaced_by_pip(parse_lines([line]), {"numpy": "2.1.0"})) is asked


def test_the_best_wheel_for_the_target_is_chosen():
    names = [
        "x-1-py3-none-any.whl",
        "x-1-cp311-cp311-manylinux_2_34_x86_64.whl",
        "x-1-cp38-abi3-manylinux2014_x86_64.whl",
        "x-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "x-1-2-cp311-cp311-manylinux_2_17_x86_64.whl",
        "x-1-cp311-cp311-manylinux_2_17_aarch64.whl",
    ]
    wheels = [{"url": f"https://example.org/{name}"} for name in names]
    tags = wheel_tags("3.11.7", "x86_64", 28)
    best = _best_wheel(wheels, tags)
    assert best is not None and best["url"].endswith(names[4])
    assert _best_wheel(wheels[1:2], tags) is None
    old = _best_wheel(wheels[:1] + wheels[2:], wheel_tags("3.9", "x86_64", 28))
    assert old is not None and old["url"].endswith(names[2])


def test_every_kind_of_locked_package_goes_to_pylock_and_back(tmp_path):
    packages = [
        LockedPypi("a", "1", "https://example.org/a-1-py3-none-any.whl", "0" * 64),
        LockedPypi("b", "2", "https://example.org/b-2.tar.gz", "1" * 64),
        LockedPypi("c", "3", "git+https://example.org/c.git@abc123#subdirectory=py"),
        LockedPypi("d", "", str(tmp_path)),
    ]
    parsed = tomllib.loads(pylock(packages))["packages"]
    tags = wheel_tags("3.11", "x86_64", 28)
    assert [_locked(package, tags, Path("/")) for package in parsed] == packages


def test_uvs_explanation_becomes_the_message_and_secrets_do_not():
    log = [
        "Using Python 3.11",
        "error: No solution found when resolving dependencies",
        "  cause: Because you require rich==13 and rich==14, we can conclude that your requirements are",
        "         unsatisfiable.",
    ]
    error = uv_failure("the pip section of x can't be resolved", log)
    assert error.message.startswith(
        "the pip section of x can't be resolved: Because you require rich==13 and rich==14"
    )
    error = uv_failure("it failed", ["error: Failed to fetch: https://me:pass@h/simple", "  cause: x"])
    assert error.message == "it failed: Failed to fetch: https://***@h/simple"
    assert error.details == ["  cause: x"]
    assert without_secrets("https://me:p@ss@h/main") == "https://***@h/main"
    assert without_secrets("https://h/t/tk-12/main") == "https://h/t/***/main"
    assert without_secrets("file:///srv/t/x/main") == "file:///srv/t/x/main"


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://me:pass@h/main", "https://h/main"),
        ("https://token@h/main", "https://h/main"),
        ("https://me:p@ss@h/main", "https://h/main"),
        ("https://h/t/tk-12/main/noarch/x.conda", "https://h/main/noarch/x.conda"),
        ("https://h/api/repo/t/tk-12-3/main", "https://h/api/repo/main"),
        ("https://h/packages/source/t/tqdm/tqdm-4.tar.gz", "https://h/packages/source/t/tqdm/tqdm-4.tar.gz"),
        ("file:///srv/t/tk-1/main", "file:///srv/t/tk-1/main"),
        ("git+ssh://git@h/a.git@0123", "git+ssh://git@h/a.git@0123"),
        ("git+ssh://git:pass@h/a.git@0123", "git+ssh://git@h/a.git@0123"),
        ("git+https://h/a.git@0123", "git+https://h/a.git@0123"),
        (
            "--extra-index-url https://${USER}:${PASS}@h/simple",
            "--extra-index-url https://${USER}:${PASS}@h/simple",
        ),
        ("--extra-index-url https://me:${PASS}@h/simple", "--extra-index-url https://h/simple"),
    ],
)
def test_credentials_are_not_stored(url, stored):
    assert without_credentials(url) == stored


def test_a_digest_does_not_depend_on_a_password():
    one, two, other = (
        parse_spec(f"channels: ['https://me:{password}@h/{channel}']\n", "e.yml").digest()
        for password, channel in (("a", "main"), ("b", "main"), ("a", "other"))
    )
    assert one == two != other


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_refused_login_is_not_called_a_fault_of_the_network(status):
    text = f"HTTP status client error ({status}) for url (https://h/main/noarch/repodata.json.zst)"
    error = channel_failure(text, ["https://me:pass@h/main/", "https://h/main/"])
    assert error.message.startswith("the channel https://h/main/ requires other credentials: HTTP status")
    assert error.hint == install_failure(RuntimeError(text)).hint
    assert "~/.netrc" in error.hint


def build_log(*end: str, lines: int = 300) -> list[str]:
    start = ["error: Failed to build `x`", "  cause: The build backend returned an error", "  cause: Call failed"]
    return [
        *start,
        "    [stdout]",
        *(f"    line {number}" for number in range(lines)),
        *(f"    {line}" for line in end),
    ]


def test_the_end_of_a_build_is_shown_and_all_of_it_kept():
    error = uv_failure("x", build_log("the reason"))
    assert error.details[:2] == ["  cause: The build backend returned an error", "  cause: Call failed"]
    assert error.details[2].strip() == "... 262 lines before; -v shows them ..."
    assert error.details[-1].strip() == "the reason"
    assert len(error.log) == 304
    assert uv_failure("x", build_log(lines=3)).details == build_log(lines=3)[1:]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (
            "ModuleNotFoundError: No module named 'torch.utils'",
            "The build imports torch. Add it to the dependencies",
        ),
        ("x.c:1:10: fatal error: Python.h: No such file or directory", "The header Python.h is missing"),
        ("x.cpp:3:10: fatal error: 'openssl/ssl.h' file not found", "The header openssl/ssl.h is missing"),
        ("/usr/bin/ld: cannot find -lcblas: No such file or directory", "The library cblas is missing"),
        ("error: command 'gcc' failed: No such file or directory", "No C or C++ compiler was found"),
        (
            "error: command '/opt/x-linux-gnu-cc' failed: No such file or directory",
            "No C or C++ compiler was found",
        ),
        ("CMake Error: No CMAKE_CXX_COMPILER could be found.", "No C or C++ compiler was found"),
        ("ERROR: Unknown compiler(s): [['cc'], ['gcc']]", "No C or C++ compiler was found"),
        ("OSError: CUDA_HOME environment variable is not set.", "The build needs a CUDA compiler"),
        ("error: can't find Rust compiler", "Add rust to the dependencies"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", "Add cmake to the dependencies"),
        ("error: command '/usr/bin/gcc' failed with exit code 1", "The reason is at the end of the output"),
    ],
)
def test_the_hint_fits_the_failure_of_a_build(line, hint):
    assert uv_failure("x", build_log(line)).hint.startswith(hint)


def test_relative_links_start_at_the_spec(tmp_path):
    lines = parse_lines(["-f wheels", "--find-links https://h/links", "-f /srv/wheels"])
    found = [word for word in index_arguments(lines, None, tmp_path) if not word.startswith("--")]
    assert found[:3] == [str(tmp_path / "wheels"), "https://h/links", "/srv/wheels"]


def test_a_folder_mistaken_for_a_channel_name_is_hinted_at(monkeypatch, tmp_path):
    (tmp_path / "channel").mkdir()
    monkeypatch.chdir(tmp_path)
    error = channel_failure("can't connect\nCaused by: dns", ["https://conda.example.org/channel/"])
    assert error.message == "the channel https://conda.example.org/channel/ can't be read: can't connect"
    assert error.hint.endswith("write ./channel.")


def test_a_file_that_can_not_be_read_as_text_is_reported(tmp_path):
    (tmp_path / "latin.yml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(SpecError, match=r"latin\.yml is not UTF-8 text \(byte 9\)"):
        load_input(tmp_path / "latin.yml")
    with pytest.raises(SpecError, match="there is no spec or lock"):
        load_input(tmp_path / "absent.yml")


def test_options_of_included_files_count_when_sources_are_built(tmp_path):
    (tmp_path / "deps" / "wheels").mkdir(parents=True)
    (tmp_path / "deps" / "a.txt").write_text("-i \\\n https://h/simple\n-f wheels\n-r b.txt\nsix==1 ???\n")
    (tmp_path / "deps" / "b.txt").write_text("-r a.txt\n--extra-index-url https://x/simple\nidna\n")
    lines = parse_lines(["-r deps/a.txt", "-r absent.txt", "six"])
    found = index_arguments(with_included_options(lines, tmp_path), None, tmp_path)
    links = ["--find-links", str(tmp_path / "deps" / "wheels")]
    expected = ["--index-url", "https://h/simple", *links, "--extra-index-url", "https://x/simple"]
    assert found == expected + STRATEGY

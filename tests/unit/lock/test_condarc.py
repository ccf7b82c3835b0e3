"""Channels as conda's configuration files define them."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from envpack.lock.condarc import ALIAS, channel_settings, home_of
from envpack.lock.solve import match_specs
from envpack.lock.target import spec_channels
from envpack.runtime.errors import UsageError
from envpack.runtime.transport.http.url import parse_url
from envpack.spec.parse import parse_spec

COMPANY = """\
channel_alias: https://mirror.example.org/conda
channels: [company, conda-forge]
default_channels: [https://mirror.example.org/main]
custom_channels: {private: "https://me:${CHANNEL_PASSWORD}@private.example.org/channels"}
custom_multichannels: {both: [company, conda-forge]}
mirrored_channels: {mirrored: ["https://one.example.org/m", "https://two.example.org/m"]}
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    for name in (
        "CONDARC",
        "MAMBARC",
        "CONDA_PREFIX",
        "CONDA_EXE",
        "MAMBA_ROOT_PREFIX",
        "CONDA_ROOT",
        "XDG_CONFIG_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("CHANNELS", "CHANNEL_ALIAS", "CHANNEL_PRIORITY", "DEFAULT_CHANNELS"):
        monkeypatch.delenv(f"CONDA_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CHANNEL_PASSWORD", "secret")
    return tmp_path


def urls(text: str, *override: str) -> list[str]:
    return [channel.base_url for channel in spec_channels(parse_spec(text, "e.yml"), override)]


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ("[conda-forge]", ["https://mirror.example.org/conda/conda-forge/"]),
        ("[defaults]", ["https://mirror.example.org/main/"]),
        ("[private]", ["https://me:secret@private.example.org/channels/private/"]),
        ("[both]", ["https://mirror.example.org/conda/company/", "https://mirror.example.org/conda/conda-forge/"]),
        ("[mirrored, nodefaults]", ["https://one.example.org/m/"]),
        ("[https://h.example.org/c]", ["https://h.example.org/c/"]),
    ],
)
def test_names_of_channels_stand_for_what_the_configuration_says(home, channels, expected):
    (home / ".condarc").write_text(COMPANY)
    assert urls(f"channels: {channels}\n") == expected
    names = [name.strip() for name in channels.strip("[]").split(",")]
    assert urls("channels: [other]\n", *names) == expected


def test_channels_of_the_configuration_are_for_specs_without(home):
    (home / ".condarc").write_text(COMPANY)
    expected = ["https://mirror.example.org/conda/company/", "https://mirror.example.org/conda/conda-forge/"]
    assert urls("dependencies: [python]\n") == expected
    assert urls("channels: [https://h.example.org/c]\ndependencies: [python]\n") == ["https://h.example.org/c/"]


def test_the_channel_of_a_dependency_is_the_same_one(home):
    (home / ".condarc").write_text(COMPANY)
    spec = parse_spec("channels: [company]\ndependencies: ['conda-forge::numpy >=1']\n", "e.yml")
    used = spec_channels(spec)
    assert [channel.base_url for channel in used] == [
        "https://mirror.example.org/conda/company/",
        "https://mirror.example.org/conda/conda-forge/",
    ]
    (dependency,) = match_specs(spec, any_channel=False)
    assert dependency.channel is not None and dependency.channel.base_url == used[1].base_url


def test_without_configuration_names_are_those_of_anaconda(home):
    (home / ".condarc").write_text("channels: {not: a list\n")
    settings = channel_settings({"HOME": str(home)})
    assert (settings.channels, settings.alias) == ((), ALIAS)
    assert urls("channels: [bioconda]\n") == ["https://conda.anaconda.org/bioconda/"]


def test_variables_win_over_files(home):
    (home / ".condarc").write_text(COMPANY)
    environ = {"HOME": str(home), "CONDA_CHANNELS": "a, b", "CONDA_CHANNEL_ALIAS": "https://x.example.org/"}
    settings = channel_settings(environ)
    assert (settings.channels, settings.alias) == (("a", "b"), "https://x.example.org")


def test_a_later_file_comes_first(home):
    (home / ".condarc").write_text("channels: [b]\n")
    own = home / "own.yml"
    own.write_text("channels: [a]\nchannel_alias: https://x.example.org\n")
    settings = channel_settings({"HOME": str(home), "CONDARC": str(own)})
    assert (settings.channels, settings.alias) == (("a", "b"), "https://x.example.org")


MIRROR = """\
custom_channels: {conda-forge: https://mirror.example.org/conda/, team/own: https://own.example.org}
custom_multichannels:
  all: [conda-forge, internal/label/dev, "https://h.example.org/t/secret/packs/extra"]
mirrored_channels: {internal: ["https://one.example.org/i/"]}
"""


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ("[conda-forge/label/dev]", ["https://mirror.example.org/conda/conda-forge/label/dev/"]),
        ("[conda-forge/, conda-forge/linux-64]", ["https://mirror.example.org/conda/conda-forge/"]),
        ("[conda-forge/label/dev/linux-64]", ["https://mirror.example.org/conda/conda-forge/label/dev/"]),
        ("[conda-forge-plus]", ["https://conda.anaconda.org/conda-forge-plus/"]),
        ("[internal/team]", ["https://one.example.org/i/team/"]),
        ("[team/own/label/a]", ["https://own.example.org/team/own/label/a/"]),
        ("[team/other]", ["https://conda.anaconda.org/team/other/"]),
        ("[packs/extra/label/b]", ["https://h.example.org/t/secret/packs/extra/label/b/"]),
        ("[pkgs/main/label/b]", ["https://repo.anaconda.com/pkgs/main/label/b/"]),
        ("[all/label/dev]", ["https://conda.anaconda.org/all/label/dev/"]),
        (
            "[all]",
            [
                "https://mirror.example.org/conda/conda-forge/",
                "https://one.example.org/i/label/dev/",
                "https://h.example.org/t/secret/packs/extra/",
            ],
        ),
    ],
)
def test_a_channel_below_a_custom_one_is_in_its_place(home, channels, expected):
    (home / ".condarc").write_text(MIRROR)
    assert urls(f"channels: {channels}\n") == expected


def test_a_dependency_names_a_channel_below_a_custom_one(home):
    (home / ".condarc").write_text(MIRROR)
    spec = parse_spec("channels: [a]\ndependencies: ['conda-forge/label/dev::x']\n", "e.yml")
    (match,) = match_specs(spec, any_channel=False)
    assert match.channel.base_url == "https://mirror.example.org/conda/conda-forge/label/dev/"
    assert match.channel.base_url in [channel.base_url for channel in spec_channels(spec)]


PLACES = (
    "root/.condarc",
    "root/condarc",
    "root/condarc.d/10.yml",
    "root/condarc.d/20.yaml",
    "root/.mambarc",
    "xdg/conda/.condarc",
    ".config/conda/condarc.d/a.yml",
    ".conda/condarc",
    ".conda/condarc.d/a.yml",
    ".condarc",
    ".mambarc",
    "root/envs/x/.condarc",
    "root/envs/x/condarc.d/a.yml",
    "folder/a.yml",
    "own",
)
"""The places of configuration files, the one with the highest priority last."""


@pytest.fixture
def environ(home) -> dict[str, str]:
    return {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "xdg"),
        "MAMBA_ROOT_PREFIX": str(home / "root"),
        "CONDA_PREFIX": str(home / "root" / "envs" / "x"),
        "CONDARC": str(home / "folder"),
        "MAMBARC": str(home / "own"),
    }


def write(home: Path, place: str, text: str) -> None:
    (home / place).parent.mkdir(parents=True, exist_ok=True)
    (home / place).write_text(text)


def test_files_are_read_in_the_order_of_conda(home, environ):
    for number, place in enumerate(PLACES):
        write(
            home,
            place,
            f"channels: [c{number}]\ndefault_channels: [d{number}]\nchannel_alias: https://a{number}\n",
        )
    write(home, ".conda/condarc.d/read.me", "channels: [no]\n")
    settings = channel_settings(environ)
    numbers = [*reversed(range(len(PLACES)))]
    assert settings.channels == tuple(f"c{number}" for number in numbers)
    assert settings.multichannels["defaults"] == tuple(f"d{number}" for number in numbers)
    assert settings.alias == f"https://a{len(PLACES) - 1}"


def test_the_users_file_wins_over_that_of_an_active_base_environment(home, environ):
    write(home, "root/.condarc", "channels: [base]\n")
    write(home, ".condarc", "channels: [mine]\n")
    (home / "root" / "condabin").mkdir()
    assert channel_settings({**environ, "CONDA_PREFIX": str(home / "root")}).channels == ("mine", "base")


def test_a_folder_that_can_not_be_read_counts_as_empty(home, environ, monkeypatch):
    write(home, ".conda/condarc.d/a.yml", "channels: [a]\n")
    write(home, ".condarc", "channels: [b]\n")

    def refused(_folder: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", refused)
    assert channel_settings(environ).channels == ("b",)


@pytest.mark.parametrize(
    ("text", "variable", "expected"),
    [
        ("", "", ""),
        ("channel_priority: strict", "", "strict"),
        ("channel_priority: Flexible", "", "flexible"),
        ("channel_priority: true", "", "flexible"),
        ("channel_priority: false", "", "disabled"),
        ("channel_priority: disabled", "strict", "strict"),
        ("channel_priority: [strict]", "false", "disabled"),
        ("channel_priority: other", "", ""),
    ],
)
def test_the_priority_of_channels_is_read(home, text, variable, expected):
    (home / ".condarc").write_text(f"{text}\n")
    environ = {"HOME": str(home), "CONDA_CHANNEL_PRIORITY": variable}
    assert channel_settings(environ).priority == expected


def test_the_variable_of_default_channels_wins(home):
    environ = {"HOME": str(home), "CONDA_DEFAULT_CHANNELS": "https://h.example.org/main"}
    assert channel_settings(environ).expand(["defaults"]) == ["https://h.example.org/main"]


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ("[conda-forge/linux-64]", ["https://conda.anaconda.org/conda-forge/"]),
        ("[https://h.example.org/cloud/pytorch/linux-64/]", ["https://h.example.org/cloud/pytorch/"]),
        ("[conda-forge/noarch, conda-forge]", ["https://conda.anaconda.org/conda-forge/"]),
        ("[conda-forge/label/dev]", ["https://conda.anaconda.org/conda-forge/label/dev/"]),
        ("[pkgs/r]", ["https://repo.anaconda.com/pkgs/r/"]),
        ("[pkgs/pro]", ["https://repo.anaconda.com/pkgs/pro/"]),
        ("['<unknown>']", ["https://repo.anaconda.com/pkgs/main/", "https://repo.anaconda.com/pkgs/r/"]),
        ("[main]", ["https://conda.anaconda.org/main/"]),
    ],
)
def test_channels_are_named_as_conda_exports_them(channels, expected):
    assert urls(f"channels: {channels}\n") == expected


@pytest.mark.parametrize(
    ("dependency", "expected", "channel", "subdir"),
    [
        ("c-f/linux-64::x==1=b", "x ==1 b", "https://conda.anaconda.org/c-f/", "linux-64"),
        ("c-f::x >=1", "x >=1", "https://conda.anaconda.org/c-f/", None),
        ("x[channel=c-f,version='>=1']", "x >=1", "https://conda.anaconda.org/c-f/", None),
        ("x[build=a*, channel='c-f']", 'x[build="a*"]', "https://conda.anaconda.org/c-f/", None),
        ("x[build=a*, channel=c-f, version='>=1']", "x >=1 a*", "https://conda.anaconda.org/c-f/", None),
        ("x[channel=https://h.example.org/c]", "x", "https://h.example.org/c/", None),
        ("defaults::x", "x", "https://repo.anaconda.com/pkgs/main/", None),
    ],
)
def test_a_dependency_names_its_channel_in_every_form_of_conda(dependency, expected, channel, subdir):
    spec = parse_spec(f'channels: [other]\ndependencies: ["{dependency}"]\n', "e.yml")
    (match,) = match_specs(spec, any_channel=False)
    assert (match.channel.base_url, match.subdir) == (channel, subdir)
    assert channel in [found.base_url for found in spec_channels(spec)]
    (free,) = match_specs(spec, any_channel=True)
    assert str(free) == expected


def test_a_user_without_a_home_is_told_so(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(UsageError, match="has no home directory"):
        home_of({})
    monkeypatch.delenv("NETRC", raising=False)
    assert parse_url("https://h.example/x").host == "h.example"

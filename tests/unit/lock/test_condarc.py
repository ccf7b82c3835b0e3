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
    for name in ("CONDA_CHANNELS", "CONDA_CHANNEL_ALIAS"):
        monkeypatch.delenv(name, raising=False)
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

"""The needs of an environment are in the bundle's manifest, and a spec that contradicts them is reported."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.bundle.pack import PackSettings, pack_prefix
from envpack.runtime.format.needs import Evidence, GpuCode
from envpack.runtime.reader.bundle import open_bundle
from support.environments import SITE, Environment
from support.gpu_files import SASS, Code, elf, fatbin
from support.reporters import RecordingReporter

MACHINE = {"x86_64": 62, "aarch64": 183}.get(platform.machine(), 62)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    environment = Environment(tmp_path / "env")
    library = elf(
        machine=MACHINE, versions={"libc.so.6": ["GLIBC_2.28"]}, fatbins={".nv_fatbin": fatbin(Code(SASS, 80))}
    )
    version = "__version__ = '2.7.1+cu126'\ncuda = '12.6'\n"
    environment.wheel("torch", "2.7.1", {"torch/version.py": version, "torch/lib/libtorch_cuda.so": library})
    return environment


def test_the_manifest_of_a_bundle_says_what_was_found(environment: Environment, tmp_path: Path) -> None:
    bundle, heard = tmp_path / "bundle.tar.gz", RecordingReporter()
    packed = pack_prefix(environment.prefix, bundle, settings=PackSettings(), reporter=heard)
    with open_bundle(bundle, FAST) as opened:
        needs = opened.manifest.needs
    assert needs == packed.needs
    assert needs.cuda == Evidence("12.6", f"{SITE}/torch/version.py: cuda = '12.6'")
    assert needs.gpu_code == (
        GpuCode(f"{SITE}/torch/lib/libtorch_cuda.so", "pypi:torch-2.7.1", sass=("sm_80",), main=True),
    )
    assert needs.glibc == Evidence("2.28", f"{SITE}/torch/lib/libtorch_cuda.so needs GLIBC_2.28")
    assert heard.warnings == []


def test_a_spec_that_lets_in_hosts_that_can_t_run_it_is_warned_of(
    environment: Environment, tmp_path: Path
) -> None:
    settings, heard = (
        PackSettings(requires={"cuda": "11.8", "glibc": "2.17", "memory": "1 GB"}),
        RecordingReporter(),
    )
    manifest = pack_prefix(environment.prefix, tmp_path / "bundle.tar.gz", settings=settings, reporter=heard)
    assert [warning.partition(", but")[0] for warning in heard.warnings] == [
        "requires cuda is 11.8",
        "requires glibc is 2.17",
    ]
    assert manifest.requires == settings.requires


def test_what_is_left_out_of_the_bundle_is_not_needed(environment: Environment, tmp_path: Path) -> None:
    from envpack.prefix.scan.prune import Selection

    settings = PackSettings(selection=Selection(exclude=["libtorch_cuda.so"]))
    manifest = pack_prefix(
        environment.prefix, tmp_path / "bundle.tar.gz", settings=settings, reporter=RecordingReporter()
    )
    assert (manifest.needs.glibc, manifest.needs.gpu_code) == (None, ())

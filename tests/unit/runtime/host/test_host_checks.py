"""The list of host checks: what it says of itself is so, and everything else follows from it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from envpack.cli.commands.schema import load
from envpack.runtime.errors import SpecError
from envpack.runtime.format.needs import (
    Compiler,
    DetectedNeeds,
    Evidence,
    GpuCode,
    HostLibrary,
    needs_from_json,
    needs_to_json,
)
from envpack.runtime.host.checks import evaluate, registry
from envpack.runtime.host.checks.check import Check
from envpack.runtime.host.checks.registry import CHECKS, FORMS, REQUIREMENTS, parse_need
from envpack.runtime.host.checks.verdict import FAILED, Verdict
from envpack.runtime.host.facts import Gpu, HostFacts, Nvidia
from envpack.runtime.host.minimum import version
from envpack.runtime.host.requirements import Requirements
from envpack.spec.parse import parse_spec

sys.path.append(str(Path(__file__).parents[4] / "scripts"))

NEEDS = DetectedNeeds(
    cuda=Evidence("12.6", "x"),
    rocm=Evidence("6.2", "x"),
    gpu_code=(GpuCode("libtorch.so", "torch", ("sm_90",), main=True),),
    jit=(Compiler("triton", "x", c_compiler=True), Compiler("numba", "x", ptx=True)),
    cuda_compat=(Evidence("560.35.03", "x"),),
    glibc=Evidence("2.28", "x"),
    cpu=Evidence("x86-64-v3", "x"),
    disk=10**12,
    libraries=(HostLibrary("libGL.so.1", "x", ("GL_1",), main=True),),
)
STATED = {name: parse_need(name, form.example) for name, form in FORMS.items()}
WANTED = [
    Requirements("demo", "linux-64", {}, needs=NEEDS, size=10**12, torch=True),
    Requirements("demo", "linux-64", STATED, needs=NEEDS, size=10**12),
]
A_GPU = Gpu(0, "NVIDIA GeForce RTX 3090", compute_capability="8.6", memory=24 << 30, brand="geforce")
HOSTS = [
    HostFacts(),
    HostFacts(
        kernel="3.10",
        glibc="2.17",
        cpu_level="x86-64-v1",
        cpus=1,
        memory=1,
        limited=("cpus", "memory"),
        disk_path="/",
        nvidia=Nvidia("ok", "440.33.01", "10.2", devices=(A_GPU,)),
    ),
    HostFacts(glibc="2.39", nvidia=Nvidia("ok", "470.57.02", "11.4", devices=(A_GPU,)), amd=True),
    HostFacts(glibc="2.39", nvidia=Nvidia("ok", "560.35.03", "12.8", devices=(A_GPU,)), container="docker"),
]


class Recorder:
    """An object that notes which of another one's attributes are read."""

    def __init__(self, of: object) -> None:
        self._of, self.read = of, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(self._of, name)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_check_reads_what_it_says_and_judges_its_own_requirement(check: Check) -> None:
    read, needed = set(), set()
    for wanted in WANTED:
        for host in HOSTS:
            facts, needs = Recorder(host), Recorder(wanted.needs)
            verdicts = [*check.verdicts(replace(wanted, needs=needs), facts)]  # type: ignore[arg-type]
            assert {verdict.requirement for verdict in verdicts} <= {check.name}
            read, needed = read | facts.read, needed | needs.read
    assert (read, needed) == (set(check.facts), set(check.needs))


def test_names_are_unique_and_what_is_read_exists() -> None:
    assert len(set(REQUIREMENTS)) == len(REQUIREMENTS)
    assert {name for check in CHECKS for name in check.facts} <= {field.name for field in fields(HostFacts)}
    assert {name for check in CHECKS for name in check.needs} <= {field.name for field in fields(DetectedNeeds)}


@pytest.mark.parametrize("name", FORMS)
def test_the_example_of_each_form_is_read(name: str) -> None:
    form = FORMS[name]
    spec = parse_spec(f"name: x\nenvpack: {{requires: {{{name}: '{form.example}'}}}}\n", "x.yml")
    assert spec.requires.minimums == {name: form.minimum(form.example)}
    with pytest.raises(ValueError, match="expected"):
        form.minimum("what")


def test_a_check_in_the_list_is_all_that_a_new_requirement_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row: it is read from specs and manifests, judged, and has its row in the documents and the schema."""
    import make_docs

    def systemd(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
        if "systemd" in wanted.stated:
            yield Verdict("systemd", str(wanted.stated["systemd"].minimum), facts.distribution, FAILED)

    check = Check("systemd", systemd, "its version", facts=("distribution",), form=version("the host", "252"))
    with pytest.raises(SpecError):
        parse_spec("name: x\nenvpack: {requires: {systemd: 252}}\n", "x.yml")
    monkeypatch.setitem(FORMS, check.name, check.form)
    for module in (registry, evaluate, make_docs):
        monkeypatch.setattr(module, "CHECKS", (*CHECKS, check))

    spec = parse_spec("name: x\nenvpack: {requires: {systemd: 252}}\n", "x.yml")
    wanted = Requirements("demo", "linux-64", spec.requires.minimums)
    assert [item.requirement for item in evaluate.evaluate(wanted, HostFacts())] == ["platform", "systemd"]
    assert "\n| `systemd` | its version |\n" in make_docs.host_requirements()
    assert "\n| `systemd` | `252` | the host |\n" in make_docs.spec()


def test_schemas_name_every_requirement_fact_and_need() -> None:
    def result(command: str) -> Any:
        return load(command)["properties"]["result"]["anyOf"][0]["properties"]

    assert result("check")["verdicts"]["items"]["properties"]["requirement"]["examples"] == list(REQUIREMENTS)
    assert list(result("doctor")["facts"]["properties"])[1:] == [field.name for field in fields(HostFacts)]
    assert list(result("inspect")["needs"]["properties"]) == [field.name for field in fields(DetectedNeeds)]


def test_a_new_fact_gets_the_schema_of_its_type() -> None:
    from host_schemas import of_class

    @dataclass
    class Facts:
        """Facts.

        Attributes:
            name: Its name, on
                two lines.
            sizes: In bytes.
            found: The evidence.
        """

        name: str
        sizes: tuple[int, ...]
        found: Evidence | None

    schema = of_class({"properties": {"name": {"const": "x"}, "gone": {}}}, Facts)
    assert schema == {
        "properties": {
            "name": {"const": "x"},
            "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0}, "description": "In bytes."},
            "found": {
                "anyOf": [{"$ref": "#/$defs/evidence"}, {"type": "null"}],
                "description": "The evidence.",
            },
        },
        "required": ["name", "sizes", "found"],
    }


def test_needs_survive_json() -> None:
    document = json.loads(json.dumps(needs_to_json(NEEDS)))
    assert needs_from_json({**document, "unknown": 1}) == NEEDS
    assert needs_from_json({"cuda": None, "jit": []}) == DetectedNeeds()


GPU_OPTIONAL = {"gpu": parse_need("gpu", "optional")}


@pytest.mark.parametrize("state", ["no-gpu", "container-without-gpu", "hidden"])
def test_a_bundle_for_which_a_gpu_is_optional_runs_on_a_host_without_one(state: str) -> None:
    wanted = Requirements("demo", "linux-64", GPU_OPTIONAL, needs=replace(NEEDS, rocm=None, disk=0))
    found = evaluate.evaluate(wanted, HostFacts(subdir="linux-64", nvidia=Nvidia(state)))
    (gpu,) = [item for item in found if item.requirement == "gpu"]
    assert (gpu.verdict, gpu.needed) == ("ok", "an NVIDIA GPU or none")
    assert gpu.says.endswith("; this bundle runs without one")
    assert not {"driver", "cuda", "gpu_code", "jit"} & {item.requirement for item in found}


def test_a_gpu_that_is_optional_is_checked_where_there_is_one() -> None:
    wanted = Requirements("demo", "linux-64", GPU_OPTIONAL, needs=replace(NEEDS, rocm=None))
    old = Nvidia("ok", "440.33.01", "10.2", devices=(A_GPU,))
    for nvidia, failed in ((old, "cuda"), (Nvidia("no-driver"), "gpu")):
        verdicts = evaluate.evaluate(wanted, HostFacts(subdir="linux-64", nvidia=nvidia))
        assert failed in {item.requirement for item in verdicts if item.verdict == FAILED}


def test_an_optional_gpu_is_no_need_of_one_and_a_required_gpu_is() -> None:
    facts = HostFacts(nvidia=Nvidia("no-driver"))
    for word, verdicts in (("optional", []), ("required", [FAILED])):
        wanted = Requirements("demo", "linux-64", {"gpu": parse_need("gpu", word)})
        found = evaluate.evaluate(wanted, facts)
        assert [item.verdict for item in found if item.requirement == "gpu"] == verdicts

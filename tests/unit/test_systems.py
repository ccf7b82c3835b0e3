"""The pure parts of ``make systems``, and its services' code: it runs in environments of gigabytes, not here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import systems
from envpack.runtime.metrics.exposition import exposition
from envpack.runtime.metrics.families import Sample
from system_trial.known import changed
from system_trial.metrics import Expected, stated
from system_trial.service import ending
from system_trial.workshop import Built, StepError, size

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples/systems"


def test_each_system_has_a_spec_and_a_service() -> None:
    for name in systems.SYSTEMS:
        assert (REPOSITORY / f"envspecs/{name}.yml").is_file()
        assert {path.name for path in (EXAMPLES / name).glob("*.py")} == {"main.py", "make_model.py"}


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_the_code_of_the_services_is_python_3_10_and_has_one_release(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 10))
    assert text.count('\nRELEASE = "1"\n') == (path.name == "main.py")


def test_the_table_keeps_the_rows_of_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "README.md"
    rows = "| system | old | build |\n|---|---|---|\n| qwen-image | 1 | 9 s |\n| pytorch-serving | 1 | 8 s |\n"
    table.write_text(f"before\n{rows}<!-- end of the table -->\nafter\n")
    monkeypatch.setattr(systems, "TABLE", table)
    systems.write_table({"pytorch-serving": {"bundle": "2.0 GB", "answer": "[2, 0]"}})
    systems.write_table({"image-to-video": {"bundle": "2.1 GB"}})
    lines = table.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[1] == "| " + " | ".join(systems.HEADINGS) + " |"
    rest = len(systems.HEADINGS) - 4
    assert lines[3] == "| pytorch-serving | 2.0 GB | " + " | " * 5 + "[2, 0] | " + " | " * 5 + " |"
    assert lines[4].startswith("| image-to-video | 2.1 GB |")
    assert lines[5:] == [
        "| qwen-image |  |  | 9 s | " + " | ".join([""] * rest) + " |",
        "<!-- end of the table -->",
        "after",
    ]


def test_the_second_build_of_each_system_has_one_other_pin() -> None:
    for name, system in systems.SYSTEMS.items():
        spec = (REPOSITORY / f"envspecs/{name}.yml").read_text(encoding="utf-8")
        before, after = system.change
        assert before.partition("==")[0] == after.partition("==")[0]
        lines = zip(spec.splitlines(), changed(spec, system.change).splitlines(), strict=True)
        assert [new.split(" #")[0].strip() for old, new in lines if old != new] == [f"- {after}"]


def test_a_pin_that_is_not_in_the_spec_once_is_refused() -> None:
    with pytest.raises(ValueError, match="flask==1 is 0 times in the spec"):
        changed("- flask==2\n", ("flask==1", "flask==3"))


@pytest.mark.parametrize(("status", "text"), [(0, "exit status 0"), (3, "exit status 3"), (-15, "by SIGTERM")])
def test_the_end_of_a_service_is_written_for_people(status: int, text: str) -> None:
    assert ending(status) == text


@pytest.mark.parametrize(("earlier", "text"), [(False, "540 s"), (True, "540 s in an earlier run")])
def test_a_bundle_of_an_earlier_run_is_stated(earlier: bool, text: str) -> None:
    assert Built(Path("b.tar.zst"), {"seconds": 540.4}, earlier).seconds == text


DEMO = "/opt/envs/demo"
SAMPLES = (
    Sample("deployment_state", (DEMO, "ok"), 1),
    Sample("deployment_info", (DEMO, "demo", "1.2", "0" * 64), 1),
    Sample("deployment_generation", (DEMO,), 2),
    Sample("deployment_processes", (DEMO, "current"), 1),
    Sample("deployment_processes", (DEMO, "kept"), 2),
    Sample("deployment_resident_memory_bytes", (DEMO, "current"), 240_000_000),
    Sample("deployment_resident_memory_bytes", (DEMO, "kept"), 500_000_000),
    Sample("command_starts_total", (DEMO, "serve"), 1),
)


@pytest.mark.parametrize(
    ("runs_from", "text"),
    [
        ("current", "generation 2 (ok), 1 process (current) with 240 MB, 1 start"),
        ("kept", "generation 2 (ok), 2 processes (kept) with 500 MB, 1 start"),
    ],
)
def test_metrics_of_a_running_service_are_summed_up(runs_from: str, text: str) -> None:
    assert stated(exposition(SAMPLES), Expected(Path(DEMO), "1.2", 2, "ok", runs_from, 1)) == text


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("deployment_state", "the state"),
        ("deployment_info", "the bundle"),
        ("deployment_generation", "the generation"),
        ("deployment_processes", "the processes"),
        ("command_starts_total", "the starts"),
    ],
)
def test_metrics_that_lack_something_are_refused(missing: str, named: str) -> None:
    text = exposition(sample for sample in SAMPLES if sample.family != missing)
    with pytest.raises(StepError, match=f"the metrics do not say {named} of"):
        stated(text, Expected(Path(DEMO), "1.2", 2, starts=1))


def test_the_starts_of_an_unnamed_command_are_none() -> None:
    with pytest.raises(StepError, match="the metrics do not say the starts of"):
        stated(exposition(SAMPLES), Expected(Path(DEMO), "1.2", 2))


@pytest.mark.parametrize(
    ("number", "text"), [(12, "12 bytes"), (4_100, "4 kB"), (27_000_000, "27 MB"), (3_254_000_000, "3.25 GB")]
)
def test_sizes_are_written_for_people(number: int, text: str) -> None:
    assert size(number) == text

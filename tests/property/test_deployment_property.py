"""Random commands on a deployment, in random order: it is always complete, and no generation is lost."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.move import move
from envpack.runtime.commands.remove import remove
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.deployment.history import history
from envpack.runtime.errors import DeploymentTestError, DestinationError
from envpack.runtime.report import Reporter
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from support.sample_deployments import PASSES, bundle

STEPS = st.one_of(
    st.tuples(st.just("deploy"), st.integers(0, 2)),
    st.tuples(st.just("failing"), st.just(0)),
    st.tuples(st.just("rollback"), st.one_of(st.none(), st.integers(1, 6))),
    st.tuples(st.just("move"), st.sampled_from("xyz")),
    st.tuples(st.just("mv"), st.sampled_from("xyz")),
    st.tuples(st.just("edit"), st.just(0)),
    st.tuples(st.just("remove"), st.booleans()),
)


class Model:
    """The expected state: the current and the previous generations, each with its version and the user's file."""

    def __init__(self) -> None:
        self.current: int | None = None
        self.there: dict[int, str] = {}
        self.replaced: dict[int, int | None] = {}
        self.mine: set[int] = set()
        self.highest = 0

    def deploy(self, version: str, keep: int) -> None:
        before, self.highest = self.current, self.highest + 1
        self.current = self.highest
        self.there[self.current], self.replaced[self.current] = version, before
        kept = sorted((g for g in self.there if g != self.current), key=lambda g: (g != before, -g))
        for generation in kept[keep:]:
            if generation not in self.mine:
                del self.there[generation]

    def target(self, to: int | None) -> int | None:
        if self.current is None:
            return None
        if to is not None:
            return to if to in self.there else None
        replaced = self.replaced[self.current]
        if replaced in self.there:
            return replaced
        return max((g for g in self.there if g < self.current), default=None)


@settings(max_examples=8, deadline=None)
@given(st.lists(STEPS, min_size=4, max_size=12))
def test_any_order_of_commands(steps: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _walk(Path(folder).resolve(), steps)


def _walk(folder: Path, steps: list[tuple[str, object]]) -> None:
    model, place, reporter = Model(), folder / "x", Reporter()
    model.deploy("1", 1)
    deploy(bundle(folder, "1", test=PASSES), place, reporter=reporter)
    for number, (step, argument) in enumerate(steps, start=2):
        if step == "deploy":
            deploy(bundle(folder, str(number)), place, DeployOptions(keep=int(str(argument))), reporter=reporter)
            model.deploy(str(number), int(str(argument)))
        elif step == "failing" and model.current is not None:
            try:
                deploy(bundle(folder, str(number), test=("false",)), place, reporter=reporter)
                raise AssertionError
            except DeploymentTestError:
                pass
        elif step == "rollback":
            target = model.target(argument if isinstance(argument, int) else None)
            try:
                assert rollback(place, to=argument, reporter=reporter).generation == target  # type: ignore[arg-type]
                model.current = target
            except DestinationError:
                assert target is None
        elif step in ("move", "mv") and model.current is not None and folder / str(argument) != place:
            new = folder / str(argument)
            if step == "move":
                move(place, new, reporter=reporter)
            elif not new.with_name(f".{new.name}.envpack").exists():
                place.rename(new)
                rewrite_prefix(new, reporter)  # as its activation does
                rollback(new, to=model.current, reporter=reporter)  # any command finds what was kept
            else:
                continue
            place = new
        elif step == "edit" and model.current is not None:
            (place / "mine").write_text(str(model.current))
            model.mine.add(model.current)
        elif step == "remove" and model.current is not None:
            try:
                remove(place, force=bool(argument), reporter=reporter)
                model.there, model.current, model.highest = {}, None, 0
                model.mine = set()
            except DestinationError:
                assert not argument and model.mine & set(model.there)
        _check(model, place)


def _check(model: Model, place: Path) -> None:
    if model.current is None:
        assert not place.exists() and not place.with_name(f".{place.name}.envpack").exists()
        return
    version = model.there[model.current]
    assert (place / "lib/version").read_text() == version
    assert (place / "bin/tool").read_text() == f"#!/bin/sh\necho {place} {version}\n"
    listed = history(place).generations
    assert {item.generation: item.version for item in listed if item.path} == model.there
    for item in listed:
        if item.generation in model.mine and item.path:
            assert (Path(item.path) / "mine").read_text() == str(item.generation)

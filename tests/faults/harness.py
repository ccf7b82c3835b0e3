"""Every system call of a scenario that changes something fails or is the last, one run each, and what stands there
afterwards is looked at: see ``try_point``.

``python tests/faults/harness.py`` tries them all (``make test-faults``); ``--sample N --seed S`` tries N of them.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    tests = Path(__file__).resolve().parent.parent
    sys.path[:1] = [str(tests), str(tests.parent / "src"), str(tests.parent / "scripts")]

from faults import children
from faults.fault_workspace import ABSENT, EMPTY, Stage
from faults.samples import VERSIONS, make_bundles
from faults.scenarios import NOTHING_TO_DO, SCENARIOS, Scenario, deploy

TAKES_SPACE, SYNCS, LOCKS, WRITES, READS = 1, 2, 4, 8, 16  # as in faults.c
KILLED, INTERRUPTED, CANT_WRITE = -signal.SIGKILL, 130, 10
SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Fault:
    """A fault at the ``at``-th call, see faults.c; ``on``: at all calls from there on."""

    at: int
    do: str
    on: bool = False

    @property
    def variables(self) -> dict[str, str]:
        found = {"FAULTS_AT": str(self.at), "FAULTS_DO": self.do}
        return {**found, "FAULTS_ON": "1"} if self.on else found

    @property
    def sort(self) -> str:
        if self.do in ("before", "after"):
            return "kills"
        if self.do == "short":
            return "short writes"
        return "errors" if int(self.do) > 0 else "signals"

    @property
    def stays_broken(self) -> bool:
        """Whether nothing can be written any more, so that nothing can be put back either."""
        return self.on and self.do not in (str(errno.ENOSPC), str(errno.EDQUOT))

    def __str__(self) -> str:
        names = {"before": "killed before", "after": "killed after", "short": "half written at"}
        name = names.get(self.do)
        if name is None:
            number = int(self.do)
            name = f"{errno.errorcode[number]} at" if number > 0 else f"{signal.Signals(-number).name} before"
        return f"{name} call {self.at}{' and on' if self.on else ''}"


def every_fault(call: children.Call) -> Iterator[Fault]:
    """Everything that may befall a call."""
    at, kind = call.number, call.kind
    for do in ("before", "after", f"{-signal.SIGTERM}", f"{-signal.SIGINT}"):
        yield Fault(at, do)
    yield Fault(at, f"{-signal.SIGINT}", on=True)
    if kind & WRITES:
        yield Fault(at, "short")
    if kind & LOCKS:
        yield Fault(at, str(errno.ENOLCK))
        return
    yield Fault(at, str(errno.EIO))
    yield Fault(at, str(errno.EIO), on=True)
    if kind & TAKES_SPACE or call.name == "rename":
        for full in (errno.ENOSPC, errno.EDQUOT):
            yield Fault(at, str(full))
    if kind & TAKES_SPACE and not kind & SYNCS:
        yield Fault(at, str(errno.ENOSPC), on=True)
    if not kind & SYNCS:
        yield Fault(at, str(errno.EACCES))
        yield Fault(at, str(errno.EROFS))
        yield Fault(at, str(errno.EROFS), on=True)
        yield Fault(at, str(errno.EACCES), on=True)


def chosen_faults(call: children.Call) -> Iterator[Fault]:
    """Those of them that differ in what they may lead to: what is killed after a call is killed before the next
    one too, unless others see the call; of errors and signals that are met alike, each call gets one in turn.

    Of calls on one file after the other in a folder that is not visible yet, or not any more, each gets one.
    """
    faults = list(every_fault(call))
    if re.search(r"/(new-\d+|trash-[^/]*|work/[^/]*)/", call.about) and "deployment.json" not in call.about:
        yield faults[call.number % len(faults)]
        return
    at = call.number
    alike = (
        (errno.EDQUOT, errno.EROFS),
        (-signal.SIGTERM, -signal.SIGINT),
    )
    left_out = {Fault(at, str(number)) for pair in alike for number in pair if number != pair[at % 2]}
    broken = [str(number) for number in (errno.EIO, errno.EROFS, errno.EACCES)]
    left_out |= {Fault(at, do, on=True) for do in broken if do != broken[at % 3]}
    if call.name not in ("rename", "exchange"):
        left_out.add(Fault(at, "after"))
    yield from (fault for fault in faults if fault not in left_out)


class Attempt:
    """A scenario on a stage: what is there before is made once, and put there again for each point."""

    def __init__(self, scenario: Scenario, stage: Stage) -> None:
        self.scenario, self.stage = scenario, stage
        self.wrong: list[str] = []
        self.places = scenario.at(stage)
        stage.clear()
        for step in scenario.setup:
            if callable(step):
                step(stage)
            else:
                ended = stage.run(step)
                assert ended.code == 0, (scenario.name, step, ended)
        stage.learn_segments()
        stage.save("before")
        self.mixes = scenario.mixes(stage) if scenario.mixes else []
        self.owned = {"".join(stage.strangers(self.places))}
        before = stage.survivors(self.places)
        assert self.state() == scenario.before, (scenario.name, self.state())
        self.old_debris = stage.debris(self.places)
        ended = stage.run(scenario.command, scenario.variables)
        assert ended.code == scenario.code, (scenario.name, ended)
        self.calls = children.calls(stage.scratch)
        assert ended.calls == len(self.calls)
        assert self.state() == scenario.after, (scenario.name, self.state())
        stage.learn_segments()
        self.lasting = before & stage.survivors(self.places)

    def state(self) -> tuple[str, ...]:
        found = []
        for place in self.places:
            standing = self.stage.standing(place)
            if self.mixes and standing not in (ABSENT, EMPTY, *VERSIONS):
                standing = self.stage.is_mixed(place, place, self.scenario.version, self.mixes) or "mixed"
            found.append(standing)
        return tuple(found)

    def out_of_order(self) -> list[str]:
        """What a power cut could tear apart: what is written to a new tree after it was synced and before it is
        switched to, and a switch that is not synced at once."""
        x = str(self.stage.x)
        switches = [
            index
            for index, call in enumerate(self.calls)
            if call.name in ("exchange", "rename") and call.about.endswith(f" -> {x}")
        ]
        if self.scenario.command[0] != "deploy" or self.scenario.variables or not switches:
            return []
        synced = [index for index, call in enumerate(self.calls[: switches[0]]) if call.name == "syncfs"]
        if not synced:
            return ["the switch comes before the new tree is synced"]
        between, after = self.calls[synced[-1] + 1 : switches[0]], self.calls[switches[0] + 1 :]
        late = [
            f"{call.name} {call.about}" for call in between if call.kind & TAKES_SPACE and not call.kind & SYNCS
        ]
        if not after or after[0].name != "fsync" or after[0].about != str(self.stage.place):
            late.append("the switch is not synced at once")
        return late

    # --- one point ---

    def try_point(self, fault: Fault, number: int) -> list[str]:
        """What is wrong after a fault: with what stands there, with what was said, and with the commands that
        follow, the same again and then another one, or another one at once."""
        self.wrong = []
        stage, scenario = self.stage, self.scenario
        stage.restore("before")
        ended = stage.run(scenario.command, {**scenario.variables, **fault.variables})
        state = self.state()
        self._check_end(fault, ended, state)
        self._check_rest("afterwards")
        survivors = stage.survivors(self.places) | ({scenario.version} if "mixed" in state else set())
        survivors |= {"1"} if scenario.name == "roll back, moved" else set()  # looked at in _check_rest
        if not self.lasting <= survivors:
            self._say(f"lost {sorted(self.lasting - survivors)}")
        self._check_activation(state, "afterwards")
        stage.save("fault")

        self._again(state)
        self._go_on(("remove", "deploy 3")[number % 4 == 0], "then")
        if scenario.store and number % 4:
            self._go_on("gc", "then")
            if stage.segments() and "store, used" not in scenario.name:
                self._say(f"gc leaves {stage.segments()}")
        if scenario.others:
            stage.restore("fault")
            self._go_on(scenario.others[number % len(scenario.others)], "at once")
        return self.wrong

    def _say(self, what: str) -> None:
        self.wrong.append(what)

    def _check_end(self, fault: Fault, ended: children.Ended, state: tuple[str, ...]) -> None:
        """Run the command, and check that its exit code and messages agree with the state on disk."""
        scenario, said = self.scenario, ended.said
        if "Traceback" in said:
            self._say(f"a traceback: {said[-600:]}")
        if ended.code == -signal.SIGALRM:
            self._say("hangs")
        allowed = {scenario.before, scenario.after}
        if fault.sort == "kills":
            allowed |= set(scenario.between)
            if ended.code != KILLED and not (scenario.command[0] == "sh" and "Killed" in said):
                self._say(f"not killed: {ended}")
        elif ended.code == scenario.code:
            allowed = {scenario.after}
            if "could not be restored" in said:
                allowed |= set(scenario.between)
        elif fault.sort == "short writes":
            self._say(f"fails: {ended}")
        elif fault.sort == "signals":
            if fault.on:
                allowed |= {*scenario.between, ("mixed", *scenario.before[1:])}
            if self.scenario.command[0] == "sh":
                if "interrupted" not in said:
                    self._say(f"nothing is said of a signal: {ended}")
            elif ended.code != INTERRUPTED:
                self._say(f"exit code {ended.code} after a signal: {said}")
        else:
            self._check_error(fault, ended)
            allowed = {scenario.before}
            if fault.on:  # nor can an empty folder be made again then
                allowed.add(tuple(ABSENT if what == EMPTY else what for what in scenario.before))
            if fault.stays_broken or scenario.in_place or scenario.command[0] == "remove":
                allowed |= {scenario.after, *scenario.between}
        if state not in allowed:
            self._say(f"exit code {ended.code}, and there is {state}: {said[-300:]}")
        cleans_up = fault.sort in ("errors", "signals", "short writes") and not fault.on
        if cleans_up or (fault.sort == "errors" and not fault.stays_broken):
            call = self.calls[fault.at - 1]
            tidying = fault.sort == "errors" and call.name in ("unlink", "rmdir")
            self._check_debris("afterwards", said, tidying)

    def _check_error(self, fault: Fault, ended: children.Ended) -> None:
        scenario, said = self.scenario, ended.said
        if scenario.command[0] == "sh":
            codes = {1}
        elif scenario.code:
            codes = {CANT_WRITE, scenario.code}
        else:
            codes = {CANT_WRITE}
        if ended.code not in codes:
            self._say(f"exit code {ended.code}: {said}")
        reasons = [os.strerror(int(fault.do))]
        if fault.do == str(errno.ENOLCK):
            reasons.append("has no file locks")
        if not any(reason in said for reason in reasons):
            self._say(f"none of {reasons} is in the message: {said}")

    def _check_rest(self, when: str) -> None:
        """Check what holds at any time."""
        stage = self.stage
        for path, what in stage.broken_keeps(self.places):
            if self.scenario.name == "roll back, moved":
                what = stage.is_mixed(path, self.places[0], path.name, self.mixes)
            if what:
                self._say(f"{when}: generation {path.name}: {what}")
        strangers = "".join(stage.strangers(self.places))
        if strangers not in self.owned:
            self._say(f"{when}: visible: {strangers}")
        for what in stage.broken_segments():
            self._say(f"{when}: {what}")

    def _check_activation(self, state: tuple[str, ...], when: str) -> None:
        for place, standing in zip(self.places, state, strict=True):
            if standing in (ABSENT, EMPTY):
                continue
            if self.scenario.name == "repair" and standing == "mixed":
                continue  # a damaged tool does not run
            before = self.stage.standing(place)
            wrong = self.stage.activate(place)
            if wrong:
                self._say(f"{when}: not activated: {wrong}")
            now = self.stage.standing(place)
            if now != (before if standing != "mixed" else self.scenario.version):
                self._say(f"{when}: activated, it is {now}")

    def _check_debris(self, when: str, said: str, tidying: bool) -> None:
        """``tidying``: what failed is the tidying itself, and its file may be left until the next command."""
        if "can't be removed" in said or "could not be restored" in said:
            return
        unfinished = self._may_be_unfinished()
        tidied = ("lock", "moving", "settling")
        tolerated = (" is empty", *(f"/{name} is left" for name in tidied)) if tidying else ()
        for what in self.stage.debris(self.places, unfinished=unfinished):
            if what not in self.old_debris and not what.endswith(tolerated):
                self._say(f"{when}: {what}")

    def _may_be_unfinished(self) -> bool:
        """Trees that are written in place say so until they are whole; a shell, without a lock, lets that lie."""
        return self.scenario.in_place or self.scenario.name == "roll back, moved"

    # --- the next commands ---

    def _again(self, state: tuple[str, ...]) -> None:
        scenario, stage = self.scenario, self.stage
        ended = stage.run(scenario.command, scenario.variables)
        done = state == scenario.after and not scenario.repeats and ended.code == NOTHING_TO_DO
        if ended.code != scenario.code and not done:
            self._say(f"again, it fails: {ended}")
        self._check_rest("again")
        self._check_activation(self.state(), "again")
        if self.state() != scenario.after and "fails" not in state:
            self._say(f"again, there is {self.state()}: {ended.said}")
        activated = scenario.command[0] == "sh"
        for what in stage.debris(self.places, store_too=scenario.name == "gc", unfinished=activated):
            self._say(f"again: {what}")
        for folder in (stage.store / "1/work").glob("*/"):  # empty locks are gc's, too
            self._say(f"again: {folder} is left")
        there = {str(place) for place, what in zip(self.places, self.state(), strict=True) if what in VERSIONS}
        if scenario.command[0] not in ("unpack", "sh", "repair") and not there <= stage.listed():
            self._say(f"again: {there} is not listed, but {stage.listed()}")

    def _go_on(self, what: str, when: str) -> None:
        """Another command, on the place where the deployment is by now."""
        stage = self.stage
        standing = [place for place in self.places if stage.standing(place) not in (ABSENT, EMPTY)]
        place = standing[-1] if standing else self.places[0]
        was_there = bool(standing)
        x = str(place)
        if what == "activate":
            self._check_activation(self.state(), when)
            return
        command = {
            "deploy 3": deploy("3", "--no-test", to=x),
            "remove": ["remove", x],
            "rollback": ["rollback", x],
            "move": ["move", x, "{z}"],
            "history": ["history", x],
            "gc": ["gc", "{store}"],
        }[what]
        before = self.state()
        ended = stage.run(command)
        codes = {0} if was_there else {0, NOTHING_TO_DO}
        if what in ("rollback",):
            codes = {0, NOTHING_TO_DO}
        if what == "deploy 3":
            codes = {0}
        if what == "gc" and not stage.store.is_dir():
            codes = {6}
        if what == "remove" and self.scenario.name == "repair" and "edited" in ended.said:
            codes.add(CANT_WRITE)
        when = f"{when} {what}"
        if ended.code not in codes:
            self._say(f"{when} fails: {ended}")
        places = [place, stage.z] if what == "move" else [place]
        if what == "deploy 3" and stage.standing(place) != "3":
            self._say(f"{when}: there is {stage.standing(place)}")
        if what == "move" and was_there and stage.standing(stage.z) not in VERSIONS and not self.mixes:
            self._say(f"{when}: there is {stage.standing(stage.z)}")
        if what == "remove" and ended.code == 0 and os.path.lexists(place):
            self._say(f"{when}: it is there still")
        if what in ("history", "gc") and self.state() != before:
            self._say(f"{when}: changes something")
        if what == "gc":
            for each in stage.broken_segments():
                self._say(f"{when}: {each}")
            work = stage.store / "1/work"
            if work.is_dir() and list(work.iterdir()):
                self._say(f"{when}: {list(work.iterdir())}")
        if what != "history" and ended.code == 0 and not (what == "gc" and when.startswith("at once")):
            for each in stage.debris(places, store_too=what == "gc", unfinished=self._may_be_unfinished()):
                self._say(f"{when}: {each}")


# --- all points, by several workers ---


def work(folder: Path, bundles: Path, elsewhere: Path | None, options: argparse.Namespace) -> None:
    """Tries this worker's part of the points; a line of JSON for each scenario, and for each violation."""
    children.preload()
    other = Path(tempfile.mkdtemp(prefix="envpack-faults-", dir=elsewhere)) if elsewhere is not None else None
    index, workers = options.worker
    try:
        stage = Stage(folder, bundles, other)
        for scenario in SCENARIOS:
            if options.only and scenario.name not in options.only:
                continue
            if scenario.name == "move elsewhere" and other is None:
                continue
            began = time.monotonic()
            attempt = Attempt(scenario, stage)
            faults = every_fault if options.every else chosen_faults
            points = [fault for call in attempt.calls for fault in faults(call)]
            if options.calls:
                for call in attempt.calls:
                    print(json.dumps({"call": f"{call.number} {call.name} {call.about}"}), flush=True)
            chosen = list(range(len(points)))
            if options.sample:
                share = max(1, options.sample // len(SCENARIOS))
                chosen = sorted(
                    random.Random(f"{options.seed} {scenario.name}").sample(chosen, min(share, len(chosen)))
                )
            if options.fault:
                chosen = [number for number in chosen if str(points[number]) == options.fault]
            counts: Counter[str] = Counter()
            if wrong := attempt.out_of_order():
                counts["violations"] += 1
                found = {"scenario": scenario.name, "fault": "power cut", "call": "", "wrong": wrong}
                print(json.dumps({"violation": found}), flush=True)
            for number in chosen:
                if number % workers != index and not options.sample:
                    continue
                if options.sample and chosen.index(number) % workers != index:
                    continue
                fault = points[number]
                wrong = attempt.try_point(fault, number)
                counts[fault.sort] += 1
                if wrong:
                    counts["violations"] += 1
                    call = attempt.calls[fault.at - 1]
                    about = f"{call.name} {call.about}".replace(str(stage.root), "")
                    violation = {"scenario": scenario.name, "fault": str(fault), "call": about, "wrong": wrong}
                    print(json.dumps({"violation": violation}), flush=True)
            took = round(time.monotonic() - began, 1)
            print(
                json.dumps(
                    {
                        "done": scenario.name,
                        "calls": len(attempt.calls),
                        "there are": len(points),
                        "seconds": took,
                        **counts,
                    }
                ),
                flush=True,
            )
    finally:
        if other is not None:
            shutil.rmtree(other)


def main() -> int:
    parser = argparse.ArgumentParser(description="Faults injected into what changes deployments.")
    parser.add_argument("--sample", type=int, default=0, help="so many points in all (default: all there are)")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--every", action="store_true", help="every error at every call (hours)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", action="append", help="a scenario; repeatable")
    parser.add_argument("--fault", help="one fault, as a violation names it")
    parser.add_argument("--calls", action="store_true", help="list the calls, too")
    parser.add_argument("--folder", type=Path, help="where to work (default: /dev/shm, where it is there)")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--bundles", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--elsewhere", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.folder, options.bundles, options.elsewhere, options)
        return 0

    folders = [Path(tempfile.gettempdir())] + ([SHM] if os.access(SHM, os.W_OK) else [])
    chosen = options.folder or folders[-1]
    elsewhere = next((folder for folder in folders if folder.stat().st_dev != chosen.stat().st_dev), None)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="envpack-faults-", dir=chosen) as made:
        folder = Path(made).resolve()
        (folder / "bundles").mkdir()
        library = children.compile_library(folder)
        os.environ["ENVPACK_CACHE"] = ""
        make_bundles(folder / "bundles")
        environ = {**os.environ, "LD_PRELOAD": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
        given = [*sys.argv[1:], "--bundles", str(folder / "bundles")]
        given += ["--elsewhere", str(elsewhere)] if elsewhere is not None else []
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, *given, "--folder", str(folder / f"worker-{index}"),
                 "--worker", str(index), str(options.jobs)],
                env=environ, stdout=subprocess.PIPE, text=True,
            )
            for index in range(options.jobs)
        ]  # fmt: skip
        totals = _gather(workers)
    return _table(totals, time.monotonic() - started, [worker.wait() for worker in workers])


def _gather(workers: list[subprocess.Popen[str]]) -> dict[str, Counter[str]]:
    totals: dict[str, Counter[str]] = {}
    lock = threading.Lock()

    def read(worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            said = json.loads(line)
            with lock:
                if "violation" in said:
                    found = said["violation"]
                    print(f"VIOLATION {found['scenario']}: {found['fault']}: {found['call']}")
                    for what in found["wrong"]:
                        print(f"    {what}", flush=True)
                elif "call" in said:
                    print(said["call"])
                else:
                    name, calls = said.pop("done"), said.pop("calls")
                    counts = totals.setdefault(name, Counter())
                    if counts and counts["calls"] != calls:
                        print(f"VIOLATION {name}: {counts['calls']} calls once, and {calls} another time")
                        counts["violations"] += 1
                    planned = said.pop("there are")
                    counts.update(said)
                    counts["calls"], counts["there are"] = calls, planned
                    print(f"{time.strftime('%H:%M:%S')} {name}: {said}", file=sys.stderr, flush=True)

    threads = [threading.Thread(target=read, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return totals


def _table(totals: dict[str, Counter[str]], seconds: float, codes: list[int]) -> int:
    columns = [
        "calls",
        "there are",
        "kills",
        "errors",
        "short writes",
        "signals",
        "points",
        "seconds",
        "violations",
    ]
    print(f"{'':26}" + "".join(f"{column:>14}" for column in columns))
    for counts in totals.values():
        counts["points"] = sum(counts[sort] for sort in ("kills", "errors", "short writes", "signals"))
    everything: Counter[str] = Counter()
    for name in [scenario.name for scenario in SCENARIOS if scenario.name in totals]:
        print(f"{name:26}" + "".join(f"{totals[name][column]:14.0f}" for column in columns))
        everything.update(totals[name])
    print(
        f"{'in all':26}" + "".join(f"{everything[column]:14.0f}" for column in columns) + f"   in {seconds:.0f} s"
    )
    return 1 if everything["violations"] or any(codes) or not totals else 0


if __name__ == "__main__":
    sys.exit(main())

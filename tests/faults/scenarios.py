"""The scenarios: the state before, the command, and the states that are allowed afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from faults import samples
from faults.fault_workspace import ABSENT, EMPTY, Stage

TEST_FAILED, NOTHING_TO_DO = 11, 10


def deploy(version: str, *more: str, to: str = "{x}") -> list[str]:
    return ["deploy", "--no-check", "--jobs", "1", f"{{bundles}}/demo-{version}.tar.gz", to, *more]


@dataclass(frozen=True)
class Scenario:
    """``setup`` makes what is there before: commands, or what is done by hand; ``command`` is tried.

    ``places``: those looked at, by letter; ``before`` and ``after``: what stands in each; ``between``: what may
    stand there after a kill besides, "mixed" for a tree whose files are each old or new; ``code``: the command's
    exit code when nothing goes wrong; ``repeats``: whether it ends so when it is given again after it was done;
    ``variables``: for the command, and those after it; ``keeps``: generations that are kept then.
    """

    name: str
    setup: tuple[list[str] | Callable[[Stage], None], ...]
    command: list[str]
    before: tuple[str, ...]
    after: tuple[str, ...]
    places: str = "x"
    between: tuple[tuple[str, ...], ...] = ()
    mixes: Callable[[Stage], list[samples.Tree]] | None = None
    version: str = "1"
    code: int = 0
    repeats: bool = True
    in_place: bool = False
    store: bool = False
    variables: dict[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ("deploy 3", "remove", "rollback", "move", "history", "activate")

    def at(self, stage: Stage) -> list[Path]:
        return [{"x": stage.x, "y": stage.y, "f": stage.far}[letter] for letter in self.places]


# --- by hand ---


def damage(stage: Stage) -> None:
    """Changes a relocated file and a plain one, removes two, and puts a folder's file elsewhere."""
    for name in ("bin/tool", "lib/plain"):
        path = stage.x / name
        path.chmod(0o755)
        path.write_bytes(b"damaged\n")
    (stage.x / "lib/libreal.so").unlink()
    (stage.x / "lib/only-in-1").unlink()
    (stage.x / "share/empty").rmdir()


def unpack(stage: Stage) -> None:
    samples.unpack(stage.bundles, "1", stage.x)


def empty_folder(stage: Stage) -> None:
    stage.y.mkdir()


def left_beside(stage: Stage) -> None:
    """A command was killed, and its files were removed by hand, except for the target."""
    side = stage.side(stage.y)
    (side / "new-1/lib").mkdir(parents=True)
    (side / "trash-3").mkdir()
    (side / "lock").touch()


def _damaged(stage: Stage) -> list[samples.Tree]:
    return [samples.look(stage.saved / "before/0/place/x")]


def _unpacked(stage: Stage) -> list[samples.Tree]:
    return [stage.unpacked("1")]


def _either(stage: Stage) -> list[samples.Tree]:
    return [stage.wanted("2", stage.x), stage.wanted("2", stage.y), stage.unpacked("2")]


NO_EXCHANGE = {"FAULTS_NO_EXCHANGE": "1"}
MOVED = ((ABSENT, "mixed"),)
ACTIVATE = ["sh", "-c", '. "$1/bin/activate" && tool', "sh", "{x}"]
STORE = ("--store", "{store}")

SCENARIOS = [
    Scenario("deploy", (), deploy("1"), (ABSENT,), ("1",)),
    Scenario("upgrade", (deploy("1"),), deploy("2"), ("1",), ("2",)),
    Scenario("upgrade, prune", (deploy("1"), deploy("2")), deploy("3"), ("2",), ("3",)),
    Scenario("upgrade, keep none", (deploy("1"),), deploy("2", "--keep", "0"), ("1",), ("2",)),
    Scenario(
        "upgrade, test fails",
        (deploy("1"),),
        deploy("fails"),
        ("1",),
        ("1",),
        between=(("fails",),),
        code=TEST_FAILED,
    ),
    Scenario(
        "deploy, test fails", (), deploy("fails"), (ABSENT,), (ABSENT,), between=(("fails",),), code=TEST_FAILED
    ),
    Scenario("roll back", (deploy("1"), deploy("2")), ["rollback", "{x}"], ("2",), ("1",), repeats=False),
    Scenario(
        "roll forward",
        (deploy("1"), deploy("2"), ["rollback", "{x}"]),
        ["rollback", "--to", "2", "{x}"],
        ("1",),
        ("2",),
    ),
    Scenario(
        "move",
        (deploy("1"), deploy("2")),
        ["move", "{x}", "{y}"],
        ("2", ABSENT),
        (ABSENT, "2"),
        places="xy",
        between=MOVED,
        mixes=_either,
        version="2",
    ),
    Scenario(
        "move over names",
        (deploy("1"), deploy("2"), empty_folder, left_beside),
        ["move", "{x}", "{y}"],
        ("2", EMPTY),
        (ABSENT, "2"),
        places="xy",
        between=MOVED,
        mixes=_either,
        version="2",
    ),
    Scenario(
        "move elsewhere",
        (deploy("1"), deploy("2")),
        ["move", "{x}", "{far}"],
        ("2", ABSENT),
        (ABSENT, "2"),
        places="xf",
        between=(("2", "2"),),
        version="2",
    ),
    Scenario(
        "roll back, moved",
        (deploy("1"), deploy("2"), ["move", "{x}", "{y}"]),
        ["rollback", "{y}"],
        ("2",),
        ("1",),
        places="y",
        repeats=False,
        mixes=lambda stage: [stage.wanted("1", stage.x)],
        others=("deploy 3", "remove", "history"),
    ),
    Scenario("remove", (deploy("1"), deploy("2")), ["remove", "{x}"], ("2",), (ABSENT,), repeats=False),
    Scenario(
        "repair",
        (deploy("1"), damage),
        ["repair", "{x}", "{bundles}/demo-1.tar.gz"],
        ("mixed",),
        ("1",),
        mixes=_damaged,
        in_place=True,
    ),
    Scenario("unpack", (unpack,), ["unpack", "{x}"], ("mixed",), ("1",), mixes=_unpacked, in_place=True),
    Scenario(
        "first activation",
        (unpack,),
        ACTIVATE,
        ("mixed",),
        ("1",),
        mixes=_unpacked,
        in_place=True,
        others=("deploy 3", "activate"),
    ),
    Scenario("upgrade, unpacked", (unpack, ["unpack", "{x}"]), deploy("2"), ("1",), ("2",)),
    Scenario(
        "no exchange, upgrade",
        (deploy("1"),),
        deploy("2"),
        ("1",),
        ("2",),
        between=((ABSENT,),),
        variables=NO_EXCHANGE,
    ),
    Scenario(
        "no exchange, roll back",
        (deploy("1"), deploy("2")),
        ["rollback", "{x}"],
        ("2",),
        ("1",),
        between=((ABSENT,),),
        variables=NO_EXCHANGE,
        repeats=False,
    ),
    Scenario(
        "no exchange, test fails",
        (deploy("1"),),
        deploy("fails"),
        ("1",),
        ("1",),
        between=((ABSENT,), ("fails",)),
        variables=NO_EXCHANGE,
        code=TEST_FAILED,
    ),
    Scenario("store, filled", (), deploy("1", *STORE), (ABSENT,), ("1",), store=True),
    Scenario("store, used", (deploy("1", *STORE, to="{y}"),), deploy("1", *STORE), (ABSENT,), ("1",), store=True),
    Scenario("store, upgrade", (deploy("1", *STORE),), deploy("2", *STORE), ("1",), ("2",), store=True),
    Scenario(
        "gc",
        (
            deploy("1", *STORE),
            deploy("2", "--keep", "0", *STORE),
            deploy("3", *STORE, to="{y}"),
            ["remove", "{y}"],
        ),
        ["gc", "{store}"],
        ("2",),
        ("2",),
        store=True,
        others=("deploy 3", "remove"),
    ),
]

"""Links that lead out, compared with the kernel's answer, and names that no bundle may have."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from envpack.runtime.format.tree_rules import forbidden_reason, leading_out


def real_way(start: Path, target: str) -> str:
    """Where a link leads, step by step as path_resolution(7) has it, names that are not there taken for folders;
    "" where it goes round in circles."""
    at, todo, links = str(start), [*reversed(target.split("/"))], 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = os.path.dirname(at)  # noqa: PTH120
            continue
        path = f"{at}/{part}"
        if Path(path).is_symlink():
            links += 1
            if links > 2000:
                return ""
            todo.extend(reversed(os.readlink(path).split("/")))  # noqa: PTH115
            continue
        at = path
    return at


@pytest.mark.parametrize(
    "seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(10, 40))]
)
def test_links_lead_out_where_the_kernel_says_so(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    for number in range(10):
        root = tmp_path / f"{number}/in/the/deep/root"
        folders = ["", "a", "a/b", "a/b/c", "d"]
        for folder in folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
        links: dict[str, str] = {}
        for index in range(chance.randint(1, 8)):
            folder = chance.choice(folders)
            path = f"{folder}/l{index}".lstrip("/")
            words = ["..", "..", "a", "b", "c", "d", *(f"l{other}" for other in range(8)), ".", "none"]
            target = "/".join(chance.choice(words) for _ in range(chance.randint(1, 6)))
            links[path] = target
            (root / path).symlink_to(target)
        found = set(leading_out(links, ()))
        inside = str(root)
        for path, target in links.items():
            end = real_way((root / path).parent, target)
            steps = f"{end}/".startswith(f"{inside}/")
            if not end:
                continue  # leads nowhere; whether it would have passed outside is all the same
            if not steps:
                assert path in found or any(other in found for other in links), (path, links)
                assert path in found or _passes(links, path, found), (path, links)


def _passes(links: dict[str, str], path: str, found: set[str]) -> bool:
    """Return whether the link goes through one that is reported already."""
    return any(other.rpartition("/")[2] in links[path].split("/") for other in found)


def test_a_link_that_stays_is_not_reported() -> None:
    stay = {"a/up": "..", "x": "a/up/lib/../lib/data", "l1": "l2", "l2": "l1/../y", "deep": "a/../a/up/z"}
    assert list(leading_out(stay, ())) == []


def test_what_is_allowed_to_lead_out_may_be_passed() -> None:
    links = {"out": "/data", "x": "out/../y", "e": "a/../../z"}
    assert list(leading_out(links, ["out"])) == ["e"]
    assert sorted(leading_out(links, [])) == ["e", "out", "x"]


def test_a_million_steps_take_no_time() -> None:
    chain = {f"a/l{number}": f"../a/l{number + 1}/../l{number + 1}" for number in range(50_000)}
    assert list(leading_out(chain, ())) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("bin/python", ""),
        ("envs/x/.envpack/prefix", ""),
        ("share/envpack/envpack-1.0.txt", ""),
        ("etc/conda/activate.d/~envpack-check.sh", ""),
        ("n" * 255, ""),
        ("ü" * 128, "a name of 256 bytes"),
        ("n" * 256, "a name of 256 bytes"),
        ("/".join("n" * 129), "129 parts"),
        ("/".join(["n" * 200] * 11), "2,210 bytes"),
        (".envpack-lock", "temporary files"),
        ("lib/.x.so.envpack-new", "temporary files"),
        ("lib/.x.envpack/1", "temporary files"),
    ],
)
def test_names_that_no_bundle_may_have(path: str, said: str) -> None:
    assert said in forbidden_reason(path) and bool(said) == bool(forbidden_reason(path))

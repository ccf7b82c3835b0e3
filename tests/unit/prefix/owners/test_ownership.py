"""The owner of a file that several packages claim."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from envpack.prefix.model import Published
from envpack.prefix.owners.conda_meta import Claim
from envpack.prefix.owners.ownership import Ownership, assign, source_of

CACHE = "lib/p/__pycache__/m.cpython-311.pyc"


def decide(
    paths: list[str],
    *claims: Mapping[str, Claim] | list[str],
    conda: int,
    proved: tuple[tuple[str, Claim], ...] = (),
) -> Ownership:
    all_claims = [claim if isinstance(claim, Mapping) else dict.fromkeys(claim, Claim()) for claim in claims]
    return assign(paths, all_claims, conda, lambda path, claim: (path, claim) in proved)


def owners(result: Ownership) -> dict[str, int]:
    return {path: owner for path, (owner, _) in result.owners.items()}


def test_pip_over_conda_is_pip_s_and_what_it_left_out_is_missing() -> None:
    result = decide(["a", "b"], ["a", "gone"], ["a", "b"], conda=1)
    assert owners(result) == {"a": 1, "b": 1}
    assert (result.replaced, result.missing) == (("a",), ("gone",))


def test_conda_over_pip_is_conda_s_where_the_file_is_the_one_it_published() -> None:
    ours = Claim(Published("sha"))
    result = decide(["a"], {"a": ours}, ["a"], conda=1, proved=(("a", ours),))
    assert owners(result) == {"a": 0}
    assert result.replaced == ()


def test_of_two_conda_packages_the_one_with_the_digest_of_the_file_else_the_last_by_name() -> None:
    first, second = Claim(Published("1")), Claim(Published("2"))
    assert owners(decide(["a"], {"a": first}, {"a": second}, conda=2, proved=(("a", first),))) == {"a": 0}
    edited = decide(["a"], {"a": first}, {"a": second}, conda=2)
    assert owners(edited) == {"a": 1}
    assert edited.replaced == ("a",)


def test_of_two_distributions_the_last_with_the_digest_of_the_file() -> None:
    first, second = Claim(recorded="1"), Claim(recorded="2")
    result = decide(["a"], {"a": first}, {"a": second}, conda=0, proved=(("a", first),))
    assert owners(result) == {"a": 0}
    assert result.replaced == ()


def test_byte_code_goes_with_its_source() -> None:
    shipped = {"lib/p/m.py": Claim(Published("1")), CACHE: Claim(Published("2"))}
    result = decide(["lib/p/m.py", CACHE], shipped, ["lib/p/m.py"], conda=1)
    assert owners(result) == {"lib/p/m.py": 1, CACHE: 1}
    assert result.owners[CACHE][1].published is None
    assert owners(decide(["lib/p/m.py", CACHE], ["lib/p/m.py"], conda=1)) == {"lib/p/m.py": 0, CACHE: 0}
    assert owners(decide(["lib/p/m.py", CACHE], [CACHE], conda=1)) == {}
    kept = decide(["lib/p/m.py", CACHE], shipped, conda=1)
    assert kept.owners[CACHE][1].published == Published("2")


def test_byte_code_of_nothing_is_useless_unless_a_package_ships_it() -> None:
    alone = "lib/p/alone.pyc"
    result = decide([CACHE, alone], [], conda=1)
    assert result.useless == {CACHE}
    assert decide([CACHE], [CACHE], conda=1).useless == frozenset()


@pytest.mark.parametrize(
    ("bytecode", "source"),
    [
        ("a/__pycache__/m.cpython-311.pyc", "a/m.py"),
        ("a/__pycache__/m.cpython-38.opt-2.pyc", "a/m.py"),
        ("a/__pycache__/m.pypy39.pyc", "a/m.py"),
        ("a/__pycache__/a.b.cpython-313.pyc", "a/a.b.py"),
        ("a/__pycache__/test_x.cpython-311-pytest-8.2.0.pyc", "a/test_x.py"),
        ("__pycache__/m.cpython-311.pyc", "m.py"),
        ("a/m.pyc", "a/m.py"),
    ],
)
def test_the_source_of_byte_code(bytecode: str, source: str) -> None:
    assert source_of(bytecode) == source

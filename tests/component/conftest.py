"""A shell, each one that is installed in turn, and a folder to use it in."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.shells import POSIX, SHELLS, Session, Shell, installed


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Shell:
    return installed(request.param)


@pytest.fixture(params=POSIX)
def posix(request: pytest.FixtureRequest) -> Shell:
    return installed(request.param)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)

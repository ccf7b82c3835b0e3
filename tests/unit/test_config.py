"""The settings: which file overrides which, and mistakes are reported with the name of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.config import Config, load_config
from envpack.runtime.errors import UsageError


def written(tmp_path: Path, user: str | None, system: str | None = None) -> tuple[dict[str, str], Path]:
    root, home = tmp_path / "root", tmp_path / "home"
    for path, text in ((root / "etc/envpack/config.toml", system), (home / ".config/envpack/config.toml", user)):
        if text is not None:
            path.parent.mkdir(parents=True)
            path.write_text(text)
    return {"HOME": str(home)}, root


def test_nothing_written_is_nothing_set(tmp_path: Path) -> None:
    assert load_config(*written(tmp_path, None)) == Config()
    assert load_config({}, tmp_path) == Config()


def test_the_user_s_settings_win_one_by_one(tmp_path: Path) -> None:
    environ, root = written(tmp_path, 'keep = 0\nsign_key = "~/k"', 'store = "/srv/store"\nkeep = 3\njobs = 2')
    assert load_config(environ, root) == Config(Path("/srv/store"), 0, 2, tmp_path / "home/k")


def test_xdg_config_home_is_where_it_says(tmp_path: Path) -> None:
    (tmp_path / "c/envpack").mkdir(parents=True)
    (tmp_path / "c/envpack/config.toml").write_text("jobs = 7")
    assert load_config({"XDG_CONFIG_HOME": str(tmp_path / "c")}, tmp_path).jobs == 7
    assert load_config({"XDG_CONFIG_HOME": "c", "HOME": str(tmp_path)}, tmp_path).jobs is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('stroe = "/x"', "'stroe' is not a setting; did you mean 'store'?"),
        ("zzz = 1", "the settings are: store, keep, jobs, sign_key"),
        ("store = 1", "store: expected a path in quotes, found 1"),
        ('store = ""', "expected a path in quotes"),
        ('store = "a/b"', "is not an absolute path"),
        ("keep = -1", "keep: expected an integer of 0 or more, found -1"),
        ("keep = true", "found True"),
        ("jobs = 0", "jobs: expected an integer of 1 or more"),
        ("jobs = 9999999999999999999999", "integer"),
        ("jobs = [", "not valid TOML"),
        ("a = " + "[" * 100_000, "not valid TOML"),
        ("#" * (1 << 20) + "\n", "larger than"),
    ],
)
def test_a_mistake_is_reported_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    environ, root = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_config(environ, root)
    assert said in caught.value.message
    assert str(tmp_path / "home/.config/envpack/config.toml") in caught.value.message


def test_bytes_that_are_no_text_are_reported(tmp_path: Path) -> None:
    environ, root = written(tmp_path, "")
    (tmp_path / "home/.config/envpack/config.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_config(environ, root)


def test_a_tilde_without_a_home_is_reported(tmp_path: Path) -> None:
    environ, root = written(tmp_path, None, 'store = "~/s"')
    with pytest.raises(UsageError, match="HOME is not set"):
        load_config({}, root)
    assert load_config(environ, root).store == tmp_path / "home/s"


def test_a_folder_in_its_place_is_reported(tmp_path: Path) -> None:
    environ, root = written(tmp_path, None)
    (tmp_path / "home/.config/envpack/config.toml").mkdir(parents=True)
    with pytest.raises(UsageError, match="Is a directory"):
        load_config(environ, root)

"""The text of a systemd unit, with the characters that systemd would act on."""

from __future__ import annotations

import pytest

from envpack.runtime.errors import UsageError
from envpack.runtime.format.services import Service
from envpack.runtime.service.unit import Unit


def test_a_unit_states_what_the_command_needs() -> None:
    service = Service(mounts=("/models", "/a b"), stop=90)
    unit = Unit("demo: serve", ["/opt/demo/bin/serve-run", "--log", "-"], "/srv", service, account="web")
    assert unit.text == (
        "[Unit]\n"
        "Description=demo: serve\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        'RequiresMountsFor=/models "/a b"\n'
        "\n"
        "[Service]\n"
        "User=web\n"
        "WorkingDirectory=/srv\n"
        "ExecStart=/opt/demo/bin/serve-run --log -\n"
        "Restart=on-failure\n"
        "RestartSec=5\n"
        "RestartPreventExitStatus=78\n"
        "TimeoutStopSec=90\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def test_characters_with_a_meaning_are_escaped() -> None:
    unit = Unit(
        "100%", ["/a $b/%c/x\"'\\y", "$d;"], "/w %x", Service(), for_user=True, account="x", env_file="/e f"
    )
    lines = unit.text.splitlines()
    assert "Description=100%%" in lines
    assert "WorkingDirectory=/w %%x" in lines
    assert "EnvironmentFile=/e f" in lines
    assert r"""ExecStart="/a $b/%%c/x\"'\\y" "$$d;" """.strip() in lines
    assert lines[-1] == "WantedBy=default.target"
    assert not any(line.startswith(("User=", "TimeoutStopSec=", "RequiresMountsFor=")) for line in lines)


@pytest.mark.parametrize("path", ["/a\nExecStartPre=/bin/sh", "/a\x1b", "/a\\", "/a "])
def test_a_path_that_a_unit_can_not_have_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="can't be in a systemd unit"):
        _ = Unit("x", ["/x"], path, Service()).text

"""The systemd unit of a named command (systemd.unit(5), systemd.service(5), systemd.syntax(7)). No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Sequence

from envpack.runtime.errors import StartError, UsageError
from envpack.runtime.format.services import Service


@dataclass(frozen=True)
class Unit:
    """What a unit states.

    Attributes:
        description: What the service is, in a few words.
        command: The program, as an absolute path, and its arguments.
        directory: The working directory, as an absolute path.
        service: Port, mounts and time to stop of the command.
        for_user: Whether it is for a user's own systemd, not for the system's.
        account: The user that a system service runs as; "" for root.
        env_file: A file with further variables, as an absolute path; "" for none.
    """

    description: str
    command: Sequence[str]
    directory: str
    service: Service
    for_user: bool = False
    account: str = ""
    env_file: str = ""

    @property
    def text(self) -> str:
        """The unit as the text of a file.

        Raises:
            UsageError: A path has a character that a unit can't have.
        """
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield "[Unit]"
        yield f"Description={_plain(self.description)}"
        if not self.for_user:
            yield "Wants=network-online.target"
            yield "After=network-online.target"
        if self.service.mounts:
            yield f"RequiresMountsFor={' '.join(map(_quoted, self.service.mounts))}"
        yield ""
        yield "[Service]"
        if self.account and not self.for_user:
            yield f"User={_plain(self.account)}"
        yield f"WorkingDirectory={_plain(self.directory)}"
        if self.env_file:
            yield f"EnvironmentFile={_plain(self.env_file)}"
        program, *arguments = self.command
        # variables are replaced in arguments, and not in the program
        words = [_quoted(program), *(_quoted(item).replace("$", "$$") for item in arguments)]
        yield f"ExecStart={' '.join(words)}"
        yield "Restart=on-failure"
        yield "RestartSec=5"
        yield f"RestartPreventExitStatus={StartError.code}"
        if self.service.stop:
            yield f"TimeoutStopSec={self.service.stop:g}"
        yield ""
        yield "[Install]"
        yield f"WantedBy={'default' if self.for_user else 'multi-user'}.target"


def _plain(text: str) -> str:
    """Return a value that systemd takes as it is, but for its specifiers."""
    if not text.isprintable() or text != text.strip() or text.endswith("\\"):
        raise UsageError(f"{text!r} can't be in a systemd unit", hint="Choose a path of printable characters.")
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Return a word of a value that systemd divides into words."""
    word = _plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return word if word and not set(word) & set(" \"'\\;") else f'"{word}"'

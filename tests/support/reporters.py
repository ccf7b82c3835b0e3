"""A reporter for tests of what is said."""

from __future__ import annotations

from contextlib import AbstractContextManager

from envpack.runtime.report import Reporter, Step


class RecordingReporter(Reporter):
    """Keeps notes, warnings, and the titles of steps."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.steps: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def step(self, title: str, total: int | None = None, unit: str = "bytes") -> AbstractContextManager[Step]:
        self.steps.append(title)
        return super().step(title, total, unit)

"""``envpack check``: whether a host can run an environment, requirement by requirement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import Allow, Gpu, Probe, argument, option
from envpack.cli.terminal import Stream
from envpack.cli.text import escape, wrap

if TYPE_CHECKING:
    from envpack.runtime.commands.check import CheckReport
    from envpack.runtime.host.checks.verdict import Verdict

STYLES = {"ok": "32", "warning": "1;33", "failed": "1;31", "unknown": "36"}
_HINTS = {
    "bundle": "'envpack deploy --allow {names}' ignores this.",
    "deployment": "Set ENVPACK_SKIP_CHECK=1 to activate it without the check.",
    "unpacked": "Set ENVPACK_SKIP_CHECK=1 to activate it without the check.",
    "environment": "Use --allow {names} to ignore this.",
}
_REMARKS = {
    "unpacked": "It was unpacked, not deployed with 'envpack deploy'.",
    "environment": "It is not a deployment of envpack; its requirements were derived from its files.",
}
_ON_THE_HOST = "Run 'envpack doctor --probe --json' on the other host, and give its output to --host."
_HEADINGS = ("requirement", "needed", "found", "verdict")


def check(
    console: Console,
    path: Annotated[
        str,
        argument(
            metavar="BUNDLE|PREFIX",
            help="A bundle (path, URL, or '-' for stdin), a deployment, or any conda environment.",
        ),
    ],
    host: Annotated[
        Path | None,
        option(
            "--host",
            metavar="FILE",
            help="Check another host, from its output of 'envpack doctor --json'.",
        ),
    ] = None,
    gpu: Gpu = None,
    allow: Allow = None,
    dest: Annotated[
        Path | None,
        option("--dest", metavar="DIR", help="Check the disk space of this directory. [default: the current one]"),
    ] = None,
    probe: Probe = False,
) -> Result:
    """Check whether this host, or another one, can run an environment.

    Shows what is needed, what was found, and how to correct it, for the driver, CUDA, GPU code, glibc, CPU, memory
    and disk. The exit code is 9 if a requirement is not met. -v shows the evidence and the rule for each. A bundle
    states its requirements. Those of an environment that envpack did not deploy are first derived from its files.

    \b
    Examples:
      envpack check dist/demo-1.0-20251219-linux-64.tar.gz
      envpack check https://example.org/demo.tar.gz
      envpack check /opt/envs/demo --gpu optional
      envpack check /opt/envs/demo --probe
      ssh node7 envpack doctor --json > node7.json
      envpack check demo.tar.gz --host node7.json
    """
    from envpack.bundle.codecs import FAST
    from envpack.interop.detect import is_environment
    from envpack.runtime.commands.check import check as run
    from envpack.runtime.commands.check import facts_from_file
    from envpack.runtime.errors import HostError, UsageError
    from envpack.runtime.transport.open import located

    if probe and host is not None:
        raise UsageError("--probe initializes CUDA on this host, and --host names another one", hint=_ON_THE_HOST)
    facts = facts_from_file(host) if host is not None else None
    source = located(path)
    if isinstance(source, Path) and source.is_dir() and is_environment(source):
        from envpack.prefix.needs.environment_check import examine_environment

        report = examine_environment(
            source, reporter=console.reporter, facts=facts, gpu=gpu, allow=allow or (), start_cuda=probe
        )
    else:
        report = run(
            source,
            facts=facts,
            gpu=gpu,
            allow=allow or (),
            destination=dest or Path(),
            decoders=FAST,
            start_cuda=probe,
        )
    try:
        report.require(_HINTS[report.kind], with_result=True)
    except HostError as error:
        if not console.json:
            show(console, report)
            error.details.clear()  # they are in the table
        raise
    return Result("check", report.as_dict(), lambda console: show(console, report))


def show(console: Console, report: CheckReport) -> None:
    """Write the verdicts as a table: requirement, needed, found, verdict; remarks follow each row."""
    from envpack.runtime.host.gpus import NO_DRIVER, NO_GPU

    out = console.out
    out.write(out.style(escape(_headline(report)), "1"))
    if report.kind in _REMARKS:
        for line in wrap(_REMARKS[report.kind], out.width, indent="", first=""):
            out.write(out.style(line, "2"))
    out.write()
    rows = [(item.requirement, item.needed, item.found, item.verdict) for item in report.verdicts]
    widths = _widths([_HEADINGS, *rows], out.width)
    for line in _cells(_HEADINGS, widths, out):
        out.write(out.style(line, "2"))
    reported = {NO_DRIVER, NO_GPU}  # the verdict on the GPU says more
    for item, row in zip(report.verdicts, rows, strict=True):
        first, *rest = _cells(row, widths, out)
        out.write(first[: -len(item.verdict)] + out.style(item.verdict, STYLES[item.verdict]))
        for line in rest:
            out.write(line)
        _write_remarks(out, item, repeated=item.message in reported, verbose=console.verbose)
        reported.add(item.message)


def _headline(report: CheckReport) -> str:
    host = f"on {report.host}" if report.host else "here"
    counts = {verdict: len(report.of(verdict)) for verdict in ("failed", "warning", "unknown", "ok")}
    summary = "can't run" if counts["failed"] else "runs" if not counts["unknown"] else "may run"
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"{report.title} {summary} {host}: {counted}"


def _widths(rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Return the columns of each cell; on a narrow terminal the two cells in the middle share what is left."""
    widths = [max(len(escape(row[column])) for row in rows) for column in range(len(_HEADINGS))]
    if width is not None:
        available = max(24, width - 2 - widths[0] - widths[3] - 3 * 2)
        if widths[1] + widths[2] > available:
            half = available // 2
            widths[1] = min(widths[1], max(half, available - widths[2]))
            widths[2] = available - widths[1]
    return widths


def _cells(row: Sequence[str], widths: Sequence[int], out: Stream) -> list[str]:
    """Return a row as lines; the verdict ends the first."""
    texts = [escape(text) for text in row]
    if out.width is None:
        columns = [[text] for text in texts]
    else:
        columns = [_wrap_cell(text, width) for text, width in zip(texts, widths, strict=True)]
    lines = []
    for number in range(max(map(len, columns))):
        cells = [column[number] if number < len(column) else "" for column in columns]
        padded = [f"{cell:<{width}}" for cell, width in zip(cells[:-1], widths[:-1], strict=True)]
        lines.append("  " + "  ".join([*padded, cells[-1]]).rstrip())
    return lines


def _wrap_cell(text: str, width: int) -> list[str]:
    """Return the text in lines of ``width``; a longer word, such as a version, is cut."""
    lines: list[str] = []
    for part in text.split():
        if lines and len(lines[-1]) + 1 + len(part) <= width:
            lines[-1] += f" {part}"
            continue
        lines += [part[start : start + width] for start in range(0, len(part), width)]
    return lines or [""]


def _write_remarks(out: Stream, item: Verdict, *, repeated: bool, verbose: bool) -> None:
    remarks = [("", item.message)] if item.message and not repeated else []
    if item.allowed:
        remarks.append(("", "allowed to fail"))
    if item.evidence and verbose:
        remarks.append(("evidence: ", item.evidence))
    if item.rule.text and (verbose or item.verdict in ("failed", "warning")):
        remarks.append(("rule: ", item.rule.text))
    if item.rule.source and verbose:
        remarks.append(("source: ", item.rule.source))
    for label, text in remarks:
        for line in wrap(escape(text), out.width, indent=" " * 6, first=f"    {label}"):
            out.write(out.style(line, "2") if label else line)

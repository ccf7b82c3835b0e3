"""Reading of what `measure` needs: a bundle's head or a deployment's records, and the headers of GPU code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from envpack.contents.difference import Contents
from envpack.contents.read import read_contents
from envpack.contents.sizes.bundled_file import BundledFile
from envpack.contents.sizes.gpu_code import GpuCodeSizes, GpuLibrary, stated_targets, target_sizes
from envpack.contents.sizes.measure import Sizes, measure
from envpack.prefix.scan.windowed_file import WindowedFile
from envpack.runtime.errors import PackError, UsageError
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.fs.io import open_regular
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.reader.bundle import Bundle, open_bundle
from envpack.runtime.reader.frames import frames_of
from envpack.runtime.report import Reporter
from envpack.runtime.transport.open import located

TargetReader = Callable[[str, PathRecord], Mapping[str, int] | None]
"""A function that returns bytes by target of a library, given the id of its segment and its record."""


def read_sizes(
    where: Path | str,
    reporter: Reporter,
    *,
    gpu_code: bool = False,
    decoders: Mapping[str, Decoder] = STANDARD,
) -> Sizes:
    """Return the sizes of an environment.

    In a deployment, the headers of GPU code are read. In a bundle, its libraries would have to be unpacked for
    that, most of the bundle where it is large: this is done only with ``gpu_code``.

    Args:
        where: The path or URL of a bundle, "-" for one on standard input, or the path of a deployment.
        reporter: What is told of progress.
        gpu_code: Whether to read the libraries with GPU code in a bundle.
        decoders: Functions that decompress, by codec.

    Raises:
        FormatError: It is neither, or does not exist.
        IntegrityError: It is damaged.
        UsageError: It is a stream, and ``gpu_code`` is set.
    """
    source = located(where)
    if isinstance(source, Path) and is_folder(source, follow=True):
        contents = read_contents(source, decoders)
        return measure(contents, _gpu_code(contents, reporter, lambda _, record: _deployed(source, record)))
    if not gpu_code:
        contents = read_contents(source, decoders)
        return measure(contents, _gpu_code(contents, Reporter(), lambda *_: None))
    with open_bundle(source, decoders) as bundle:
        if not bundle.is_seekable:
            raise UsageError(
                "GPU code can't be measured in a bundle that is read from a pipe",
                hint="Give the path or the URL of the bundle.",
            )
        contents = Contents(bundle.name, bundle.manifest, bundle.table())
        return measure(contents, _gpu_code(contents, reporter, _bundled(bundle)))


def _gpu_code(contents: Contents, reporter: Reporter, read: TargetReader) -> GpuCodeSizes:
    stated = {code.library: stated_targets(code) for code in contents.manifest.needs.gpu_code}
    if not stated or contents.table is None:
        return GpuCodeSizes()
    libraries = []
    with reporter.step("Reading GPU code", total=len(stated), unit="libraries") as step:
        for id, records in contents.table.segments.items():
            for record in records:
                if record.path in stated and record.type == "file":
                    found = read(id, record)
                    libraries.append(GpuLibrary(record.path, record.size, stated[record.path], found))
                    step.advance()
    return GpuCodeSizes(tuple(sorted(libraries, key=lambda library: (-library.size, library.path))))


def _deployed(root: Path, record: PathRecord) -> Mapping[str, int] | None:
    path = str(root / record.path)
    try:
        with open(path, "rb", buffering=0, opener=open_regular) as file:
            return target_sizes(WindowedFile.of(file.fileno(), path))
    except (OSError, PackError):  # missing, or became shorter meanwhile: 'envpack verify' reports it
        return None


def _bundled(bundle: Bundle) -> TargetReader:
    located = frames_of(bundle, (segment.id for segment in bundle.manifest.segments))
    return lambda id, record: target_sizes(BundledFile(bundle, located.get(id, []), record))

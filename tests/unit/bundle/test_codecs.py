"""The registry of codecs: each has all it takes, and what depends on codecs follows from the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST, LIBRARIES, encoder_for
from envpack.interop.archive.formats import FORMATS, format_of
from envpack.interop.environment.origin import name_of
from envpack.publish.names import SUFFIXES
from envpack.runtime.errors import FormatError, UsageError
from envpack.runtime.format.codec import CODECS, STANDARD, Codec, StandardDecoder, codec_of

FORMAT_PAGE = Path(__file__).parents[3] / "src/envpack/bundle/FORMAT.md"


def test_every_codec_has_an_encoder_a_decoder_and_suffixes_of_its_own() -> None:
    names = [codec.name for codec in CODECS]
    suffixes = [suffix for codec in CODECS for suffix in codec.suffixes]
    assert names == list(LIBRARIES) == list(FAST) == list(STANDARD)
    assert all(codec.suffixes and codec.magic and codec.rule for codec in CODECS)
    assert len({codec.format for codec in CODECS}) == len({codec.magic for codec in CODECS}) == len(names)
    assert len(set(suffixes)) == len(suffixes)
    assert {codec.format: codec.suffixes[0] for codec in CODECS} == SUFFIXES


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_what_the_encoder_writes_is_read_by_every_decoder(codec: Codec, tmp_path: Path) -> None:
    data = b"some bytes" * 1000
    for suffix in codec.suffixes:
        encoder = encoder_for(f"demo{suffix}")
        assert encoder.name == codec.name and str(codec.level) in encoder.identity
        frame = encoder.frame(data)
        assert codec_of(frame, "x") == codec.name
        path = tmp_path / f"demo{suffix}"
        path.write_bytes(frame)
        assert (format_of(path), name_of(path)) == (codec.format, "demo")
    assert FAST[codec.name].frame(frame, len(data)) == data
    assert LIBRARIES[codec.name].stream().decompress(frame) == data
    try:
        assert STANDARD[codec.name].frame(frame, len(data)) == data
    except FormatError as problem:
        assert codec.missing and problem.hint == codec.missing


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_every_codec_is_in_the_description_of_the_format(codec: Codec) -> None:
    assert f"`{codec.name}` (`{codec.suffixes[0]}`)" in FORMAT_PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_only_the_levels_of_a_codec_are_taken(codec: Codec) -> None:
    name = f"x{codec.suffixes[0]}"
    assert all(encoder_for(name, level).frame(b"x") for level in codec.levels)
    with pytest.raises(UsageError, match=f"{codec.name} has no level"):
        encoder_for(name, codec.levels[-1] + 1)


def test_a_python_without_a_codec_says_so() -> None:
    def nothing() -> None:
        raise ImportError

    codec = Codec("new", "new", b"NEW", (".tar.new",), range(1), 0, nothing, "none", "Install envpack.")
    with pytest.raises(FormatError, match="this Python can't read new") as caught:
        StandardDecoder(codec).frame(b"NEW", 1)
    assert caught.value.hint == "Install envpack."


def test_formats_of_archives_are_distinguished() -> None:
    magics = [magic for known in FORMATS for magic in known.magics]
    assert not [(a, b) for a in magics for b in magics if a is not b and a.startswith(b)]
    assert name_of(Path("demo-1.0.tar.bz2")) == "demo-1.0"

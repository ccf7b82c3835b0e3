"""The prefix as URLs and JSON write it: found as a path of its own, stored without a trace, written in anew."""

from __future__ import annotations

import json
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack.prefix.model import Stored
from envpack.prefix.relocate.encoded_mentions import find_encoded, find_escaped, needles, spellings
from envpack.prefix.relocate.residual_mentions import ResidualSearch
from envpack.runtime.errors import FormatError
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.relocation.relocation import ENCODINGS, Relocation, splices
from envpack.runtime.relocation.splice import splice
from support import normalized
from support.paths_tables import table_to_json

PREFIX = "/opt/my énv"


def store(data: bytes, *aliases: str, path: str = "share/x.txt") -> Stored:
    return normalized.store(data, *(alias.encode() for alias in aliases or (PREFIX,)), path=path)


def deployed(stored: Stored, prefix: str) -> bytes:
    assert stored.relocation is not None and stored.unrelocatable == ()
    return normalized.deployed(stored, prefix.encode())


def slashed(text: str) -> str:
    return json.dumps(text).replace("/", "\\/")


@pytest.mark.parametrize("destination", ["/e", "/srv/with blank/x", "/srv/ünïcode", PREFIX])
@pytest.mark.parametrize("prefix", ["/opt/env", PREFIX])
def test_a_kernel_spec_a_url_and_plain_text_in_one_file_say_the_new_place(prefix: str, destination: str) -> None:
    def text(place: str) -> str:
        lines = (
            json.dumps({"argv": [f"{place}/bin/python", "-m", "ipykernel"]}),
            slashed(f"{place}/lib"),
            f"url=https://example.org/?file={quote(place + '/a b', safe='')}&x=1",
            f"file={quote('file://' + place + '/lib', safe='')}",
            f"HOME={place}",
        )
        return "\n".join(lines)

    stored = store(text(prefix).encode(), prefix)
    data = b"".join(stored.pieces)
    assert b"opt" not in data and b"my" not in data
    if prefix == PREFIX or destination.isascii():
        assert deployed(stored, destination).decode() == text(destination)
    else:  # what stood there in plain is JSON in UTF-8 now
        argv, other, *rest = deployed(stored, destination).decode().split("\n")
        assert json.loads(argv) == {"argv": [f"{destination}/bin/python", "-m", "ipykernel"]}
        assert json.loads(other) == f"{destination}/lib"
        assert rest == text(destination).split("\n")[2:]


def test_file_urls_of_a_prefix_with_blanks_stay_urls() -> None:
    stored = store(b"file:///opt/my%20%C3%A9nv/lib/x.py\n")
    assert deployed(stored, "/e") == b"file:///e/lib/x.py\n"
    assert deployed(stored, "/a b") == b"file:///a%20b/lib/x.py\n"


@pytest.mark.parametrize(
    "text",
    ["%2Fopt%2Fenv2", "%2Fdata%2Fopt%2Fenv", "x%2Fopt%2Fenv.d", "\\/opt\\/env\\u0041", "\\/srv\\/opt\\/env"],
)
def test_longer_paths_are_others(text: str) -> None:
    assert find_encoded(text.encode(), needles([b"/opt/env"])) == []
    assert store(text.encode(), "/opt/env").relocation is None


@pytest.mark.parametrize(
    "text", ["%3D%2Fopt%2Fenv", "%2Fopt%2Fenv%2Flib", "%2Fopt%2Fenv", "\\/opt\\/env\\u0022", "%2Fopt%2Fenv%22"]
)
def test_what_is_beside_it_is_read_as_it_is_meant(text: str) -> None:
    assert [place.form.split("-")[0] for place in find_encoded(text.encode(), needles([b"/opt/env"]))] == [
        "percent" if "%" in text else "json"
    ]


def test_nothing_is_searched_for_that_the_plain_search_finds() -> None:
    assert {form for _, form in needles([b"/opt/env"])} == {"json-slashes", "percent"}
    assert {form for _, form in needles([PREFIX.encode()])} == set(ENCODINGS)
    assert {form for _, form in needles([b"/opt/\xff"])} == {"percent", "url"}


def test_a_python_source_is_left_as_its_byte_code_has_it_and_reported() -> None:
    data = b"HOME = '%2Fopt%2Fenv'\n"
    stored = store(data, "/opt/env", path="lib/x.py")
    assert b"".join(stored.pieces) == data
    assert stored.unrelocatable == ("percent-encoded text: the build prefix stays at byte 8",)


def test_the_table_keeps_the_forms_and_refuses_unknown_ones() -> None:
    relocation = store(b"%2Fopt%2Fenv \\/opt\\/env /opt/env", "/opt/env").relocation
    assert relocation is not None and relocation.text and len(relocation.encoded) == 2
    record = PathRecord("x", "file", size=1000, sha256="0" * 64, relocation=relocation)
    data = table_to_json(PathsTable({"s": (record,)}))
    assert list(table_from_json(data)) == [record]
    with pytest.raises(FormatError, match="rot13"):
        table_from_json(data.replace(b'"percent"', b'"rot13"'))


paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map("/".__add__)


@given(paths)
def test_every_form_is_what_other_programs_read(path: str) -> None:
    coded = {form: encode(path.encode()).decode() for form, encode in ENCODINGS.items()}
    assert unquote(coded["percent"]) == unquote(coded["url"]) == path
    assert json.loads(f'"{coded["json"]}"') == json.loads(f'"{coded["json-slashes"]}"') == path
    assert all(text.isascii() for text in coded.values())


def test_relocations_of_all_kinds_are_applied_in_the_order_of_the_file() -> None:
    relocation = Relocation(b"/P", text=(9,), encoded=(("percent", (0, 12)), ("url", (5,))))
    assert splice(b"%2FP /P  /P %2FP", splices(relocation, b"/a b")) == b"%2Fa%20b /a%20b  /a b %2Fa%20b"


NAME = "/opt/my-env.1"


@pytest.mark.parametrize(
    ("alias", "text"),
    [
        (NAME, "%2fopt%2fmy-env.1"),
        (NAME, "a=%2Fopt%2Fmy%2Denv%2E1/x"),
        (NAME, "%252Fopt%252Fmy-env.1%252Fx"),
        (NAME, "\\u002fopt\\u002fmy-env.1"),
        (NAME, '"\\u002Fopt\\u002Fmy-env.1\\u002Fx"'),
        (NAME, "\\x2fopt\\x2Fmy-env.1"),
        (NAME, "\\057opt\\057my-env.1"),
        (NAME, "\\\\/opt\\\\/my-env.1"),
        (NAME, r"/opt/my\-env\.1/bin"),
        (NAME, "&#47;opt&#47;my-env.1"),
        (NAME, "&#x2F;opt&#x2f;my-env.1&#x2F;x"),
        (NAME, "&sol;opt&sol;my&#45;env&period;1"),
        ("/opt/my env", r"PATH=/opt/my\ env/bin"),
        ("/opt/my env", "path=/opt/my+env"),
        ("/opt/my env", "/opt/my&#32;env"),
        ("/opt/\u6570x", "\\/opt\\/\u6570x\\/bin"),
        ("/opt/\u6570x", "/opt/%e6%95%b0x/bin"),
    ],
)
def test_other_spellings_are_found(alias: str, text: str) -> None:
    ((offset, found),) = find_escaped(text.encode(), spellings([alias.encode()]))
    assert text.encode()[offset : offset + len(found)] == found
    assert text[:offset] in ("", "a=", "PATH=", "path=", '"')


@pytest.mark.parametrize(
    ("alias", "text"),
    [
        (NAME, "%2fopt%2fmy-env.12"),
        (NAME, "%2fdata%2fopt%2fmy-env.1"),
        (NAME, "x\\/opt\\/my-env.1"),
        (NAME, "&#47;opt&#47;my-env.1-old"),
        (NAME, "/opt/my-env.1"),  # others search for these
        (NAME, "%2Fopt%2Fmy-env.1"),
        ("/\u6570/\u636e", "%2f"),
    ],
)
def test_other_paths_and_forms_are_no_other_spellings(alias: str, text: str) -> None:
    assert find_escaped(text.encode(), spellings([alias.encode()])) == []


def test_a_relocated_file_may_have_other_spellings_too() -> None:
    search = ResidualSearch([b"/opt/env"])
    assert search(b'{"a": "\\/opt\\/env"}', relocated=True).remarks == ()
    data = b'{"a": "\\/opt\\/env", "b": "\\u002Fopt\\u002Fenv"}'
    (remark,) = search(data, relocated=True).remarks
    assert remark == f"escaped string: the build prefix stays at byte {data.index(b'u002F') - 1}"

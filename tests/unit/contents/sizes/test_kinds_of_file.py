"""Kinds of file, by path."""

from __future__ import annotations

import time

import pytest

from envpack.contents.sizes.kinds import kind_of, kinds

SITE = "lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"{SITE}/numpy/_core/tests/test_array.py", "tests"),
        (f"{SITE}/numpy/_core/tests/libtest.so", "tests"),
        ("lib/python3.11/test/test_os.py", "tests"),
        (f"{SITE}/contests/app.py", "python"),
        ("share/man/man1/python.1", "documentation"),
        (f"{SITE}/x/README.md", "documentation"),
        ("share/locale/de/LC_MESSAGES/x.mo", "translations"),
        (f"{SITE}/x-1.0.dist-info/METADATA", "metadata"),
        (f"{SITE}/x-1.0.dist-info/LICENSE.md", "documentation"),
        ("conda-meta/x-1.0-0.json", "metadata"),
        (f"{SITE}/x/__pycache__/y.cpython-311.pyc", "bytecode"),
        (f"{SITE}/x/y.pyi", "python"),
        ("lib/libz.so", "shared"),
        ("lib/libz.so.1.2.13", "shared"),
        (f"{SITE}/x.libs/libgomp-a34b3233.so.1.0.0", "shared"),
        ("lib/x.so.conf", "data"),
        ("lib/libz.a", "static"),
        (f"{SITE}/x/kernels.cubin", "gpu"),
        (f"{SITE}/torch/include/ATen/ATen.h", "headers"),
        ("include/c++/13/vector", "headers"),
        ("lib/pkgconfig/zlib.pc", "headers"),
        (f"{SITE}/x/y.pyx", "source"),
        ("bin/python3.11", "programs"),
        (f"{SITE}/notebook/static/main.js.map", "web"),
        (f"{SITE}/matplotlib/mpl-data/fonts/ttf/a.ttf", "images"),
        (f"{SITE}/x/data.zip", "archives"),
        ("share/zoneinfo/UTC", "data"),
        ("a", "data"),
    ],
)
def test_a_file_has_the_first_kind_that_fits(path: str, kind: str) -> None:
    assert kind_of(path).name == kind


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len({kind.name for kind in kinds()}) == len({kind.title for kind in kinds()}) == len(kinds())


def test_paths_that_are_made_to_be_slow_are_not() -> None:
    started = time.process_time()
    for path in ("tests/" * 127 + "a", "a/" * 127 + "x.s", f"{SITE}/" + "test/doc/" * 60 + "a", ".so." * 60):
        kind_of(path)
    assert time.process_time() - started < 5

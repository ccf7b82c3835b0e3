"""``envpack publish`` and ``releases`` with a folder, and deploying what they published: latest, in parts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from envpack.cli.commands.schema import load
from envpack.runtime.transport.documents import Part, SplitBundle
from support.command_line import envpack
from support.sample_deployments import bundle, whole_version
from support.servers import serving

FIRST, SECOND, NEXT_DAY = "20251219", "20251219.1", "20251220"


def named(folder: Path, version: str, date: str, **extra: bytes) -> Path:
    """Make a bundle of "demo" with the name of a release; ``extra``: further files below ``lib``."""
    folder.mkdir(exist_ok=True)
    path = folder / f"demo-{version}-{date}-linux-64.tar.gz"
    shutil.move(bundle(folder, version, **extra), path)
    return path


def result(command: str, *words: object) -> Any:
    done = envpack(command, *words, "--json")
    document = json.loads(done.out)
    jsonschema.validate(document, load(command))
    assert done.code == 0, document["error"]
    return document["result"]["releases"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def deploy(where: object, root: Path) -> str:
    done = envpack("deploy", where, root)
    assert done.code == 0, done.err
    return whole_version(root)


def test_a_bundle_is_published_with_its_files_and_deployed_from_there(tmp_path: Path) -> None:
    made, place = named(tmp_path / "dist", "1", FIRST), tmp_path / "place"
    [published] = result("publish", made, place)
    target = place / made.name
    assert published["bundle"] == str(target) and published["published"]
    stem = made.name.removesuffix(".tar.gz")
    ends = (".cdx.json", ".manifest.json", ".tar.gz", ".tar.gz.sha256")
    assert names(place) == sorted(["demo-latest-linux-64.json", *(stem + end for end in ends)])
    subprocess.run(["sha256sum", "--check", "--strict", f"{made.name}.sha256"], cwd=place, check=True)
    assert target.read_bytes() == made.read_bytes()
    assert json.loads((place / f"{stem}.manifest.json").read_bytes())["name"] == "demo"
    assert deploy(target, tmp_path / "x") == "1"


def test_the_same_bundle_again_changes_nothing(tmp_path: Path) -> None:
    made, place = named(tmp_path / "dist", "1", FIRST), tmp_path / "place"
    result("publish", made, place)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in place.iterdir()}
    [published] = result("publish", made, place)
    assert not published["published"]
    assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in place.iterdir()} == before


def test_another_bundle_of_the_same_name_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "place"
    result("publish", named(tmp_path / "one", "1", FIRST), place)
    other = named(tmp_path / "other", "1", FIRST, more=b"more")
    before = {path: path.read_bytes() for path in place.iterdir()}
    done = envpack("publish", other, place)
    assert done.code == 10 and "is another bundle" in done.err
    assert {path: path.read_bytes() for path in place.iterdir()} == before


@pytest.mark.parametrize("left", ["bundle", ".manifest.json"])
def test_what_a_killed_process_left_is_completed(left: str, tmp_path: Path) -> None:
    made, place = named(tmp_path / "dist", "1", FIRST), tmp_path / "place"
    result("publish", made, place)
    whole = {path.name: path.read_bytes() for path in place.iterdir()}
    (place / made.name).unlink()
    if left != "bundle":
        (place / made.name.replace(".tar.gz", left)).write_text("half")
    assert envpack("releases", place).out == ""
    [published] = result("publish", made, place)
    assert published["published"]
    assert {path.name: path.read_bytes() for path in place.iterdir()} == whole


def test_a_file_that_a_checksum_does_not_belong_to_is_not_published(tmp_path: Path) -> None:
    made = named(tmp_path / "dist", "1", FIRST)
    made.with_name(f"{made.name}.sha256").write_text(f"{'0' * 64}  {made.name}\n")
    done = envpack("publish", made, tmp_path / "place")
    assert done.code == 7 and "has another SHA-256" in done.err
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize("content", [b"", b"no bundle"])
def test_only_bundles_are_published(content: bytes, tmp_path: Path) -> None:
    made = tmp_path / f"demo-1-{FIRST}-linux-64.tar.gz"
    made.write_bytes(content)
    assert envpack("publish", made, tmp_path / "place").code == 6
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize("name", ["other-1-{}-linux-64", "demo-2-{}-linux-64", "demo-1-{}-linux-aarch64"])
def test_a_bundle_with_the_name_of_another_release_is_refused(name: str, tmp_path: Path) -> None:
    made = named(tmp_path / "dist", "1", FIRST)
    other = made.rename(tmp_path / f"{name.format(FIRST)}.tar.gz")
    done = envpack("publish", other, tmp_path / "place")
    assert done.code == 2 and "is demo 1 for linux-64, and its name says" in done.err
    assert f"Rename it to {made.name}." in done.err
    assert not (tmp_path / "place").exists()


def test_the_target_is_not_forgotten(tmp_path: Path) -> None:
    done = envpack("publish", named(tmp_path / "dist", "1", FIRST))
    assert done.code == 2 and "the target is missing" in done.err
    done = envpack("publish", tmp_path / "a.tar.gz", "ftp://user:secret@example.org/x")
    assert done.code == 2 and "can't publish to ftp://example.org/x" in done.err and "secret" not in done.err


def test_releases_are_listed_newest_first(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for version, date in (("1", FIRST), ("3", NEXT_DAY), ("2", SECOND)):
        result("publish", named(tmp_path / "dist", version, date), place)
    (place / f"demo-9-{NEXT_DAY}-linux-64.tar.gz").write_bytes(b"without a checksum")
    found = result("releases", place)
    assert [(each["version"], each["date"], each["ordinal"]) for each in found] == [
        ("3", "2025-12-20", 0),
        ("2", "2025-12-19", 1),
        ("1", "2025-12-19", 0),
    ]
    for each in found:
        data = Path(each["bundle"]).read_bytes()
        assert each["sha256"] == hashlib.sha256(data).hexdigest() and each["size"] == len(data)
    assert result("releases", place, "--name", "other") == []
    assert "2025-12-19.1" in envpack("releases", place).out
    assert str(place) in envpack("releases", place, "-v").out
    assert result("releases", tmp_path / "nothing") == []


def test_latest_leads_to_the_newest_release_whatever_was_published_last(tmp_path: Path) -> None:
    place = tmp_path / "place"
    latest = place / "demo-latest-linux-64.json"
    for version, date in (("1", FIRST), ("3", NEXT_DAY), ("2", SECOND)):
        result("publish", named(tmp_path / "dist", version, date), place)
    assert json.loads(latest.read_text())["version"] == "3"
    result("publish", named(tmp_path / "dist", "10", NEXT_DAY), place)  # the same day: the higher version
    assert json.loads(latest.read_text())["version"] == "10"
    result("publish", named(tmp_path / "dist", "9", NEXT_DAY), place)
    assert json.loads(latest.read_text())["version"] == "10"
    for path in place.glob("demo-10-*"):
        path.unlink()
    result("publish", named(tmp_path / "dist", "3", NEXT_DAY), place)  # what it led to is gone
    assert json.loads(latest.read_text())["version"] == "3"
    assert deploy(latest, tmp_path / "x") == "3"
    assert json.loads(envpack("inspect", "--json", latest).out)["result"]["version"] == "3"
    assert envpack("verify", latest).code == 0
    record = json.loads((tmp_path / "x/.envpack/deployment.json").read_text())
    assert record["bundle"] == str(place / f"demo-3-{NEXT_DAY}-linux-64.tar.gz")


def test_latest_is_followed_on_a_server(tmp_path: Path) -> None:
    place = tmp_path / "place"
    result("publish", named(tmp_path / "dist", "1", FIRST), place)
    with serving({f"/b/{path.name}": path.read_bytes() for path in place.iterdir()}) as server:
        assert deploy(f"{server.url}/b/demo-latest-linux-64.json", tmp_path / "x") == "1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bundle": "../demo.tar.gz"}, "is not a file name"),
        ({"bundle": "/etc/passwd"}, "is not a file name"),
        ({"envpack_latest": 2}, "has format 2"),
        ({"sha256": "x"}, "is not a SHA-256 digest"),
        ({"size": -1}, "is not a size"),
        ({"name": "a\nb"}, "is not a short text"),
    ],
)
def test_a_pointer_leads_to_files_beside_it_only(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    result("publish", named(tmp_path / "dist", "1", FIRST), place)
    latest = place / "demo-latest-linux-64.json"
    latest.write_text(json.dumps({**json.loads(latest.read_text()), **change}))
    done = envpack("deploy", latest, tmp_path / "x")
    assert done.code == 6 and said in done.err
    assert not (tmp_path / "x").exists()


def split(made: Path, size: int) -> Path:
    """Cut a bundle as a place with a limit of ``size`` bytes a file needs it."""
    data = made.read_bytes()
    parts = []
    for number, start in enumerate(range(0, len(data), size), 1):
        piece = data[start : start + size]
        name = f"{made.name}.{number:03}"
        (made.parent / name).write_bytes(piece)
        parts.append(Part(name, len(piece), hashlib.sha256(piece).hexdigest()))
    whole = SplitBundle(made.name, len(data), hashlib.sha256(data).hexdigest(), parts)
    document = made.with_name(f"{made.name}.parts.json")
    document.write_text(json.dumps(whole.as_dict()))
    made.unlink()
    return document


@pytest.mark.parametrize("remote", [False, True])
def test_the_parts_of_a_bundle_are_read_in_place(remote: bool, tmp_path: Path) -> None:
    made = named(tmp_path / "dist", "1", FIRST)
    document = split(made, max(1000, made.stat().st_size // 7))
    if not remote:
        assert deploy(document, tmp_path / "x") == "1"
        assert envpack("verify", document).code == 0
        return
    with serving({f"/{path.name}": path.read_bytes() for path in document.parent.iterdir()}) as server:
        assert deploy(f"{server.url}/{document.name}", tmp_path / "x") == "1"
        assert envpack("verify", f"{server.url}/{document.name}").code == 0


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("fault", ["missing", "short", "other"])
def test_a_missing_or_changed_part_is_an_error(fault: str, remote: bool, tmp_path: Path) -> None:
    made = named(tmp_path / "dist", "1", FIRST)
    document = split(made, max(1000, made.stat().st_size // 3))
    part = document.with_name(f"{made.name}.002")
    data = part.read_bytes()
    if fault == "missing":
        part.unlink()
    else:
        part.write_bytes(data[:-1] if fault == "short" else bytes(byte ^ 1 for byte in data))
    with serving({f"/{path.name}": path.read_bytes() for path in document.parent.iterdir()}) as server:
        where = f"{server.url}/{document.name}" if remote else document
        done = envpack("deploy", where, tmp_path / "x")
    assert done.code in (6, 7)
    assert part.name in done.err or fault == "other"  # the frame that is wrong is named then
    assert not (tmp_path / "x").exists()


def test_two_publishers_of_one_bundle_at_once_publish_it_once(tmp_path: Path) -> None:
    made, place = named(tmp_path / "dist", "1", FIRST), tmp_path / "place"
    command = [sys.executable, "-m", "envpack", "publish", str(made), str(place)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for each in running:
        out, err = each.communicate()
        assert each.returncode == 0, err
        assert out.decode().strip() == str(place / made.name)
    assert (place / made.name).read_bytes() == made.read_bytes()
    assert len(names(place)) == 5


def test_a_name_is_reserved_by_a_file_that_is_whole_from_the_first_moment(tmp_path: Path) -> None:
    from envpack.publish.base import Upload
    from envpack.publish.local import LocalFolder

    seen = []

    class Watched(Upload):
        def chunks(self) -> Iterator[bytes]:
            yield b"a line "
            seen.extend(place.files())
            yield b"of a checksum"

    place = LocalFolder(tmp_path)
    claim = Watched.of("demo.tar.gz.sha256", b"a line of a checksum")
    with place.reserve(claim, []):
        assert place.read(claim.name) == b"a line of a checksum"
    assert seen == []
    with pytest.raises(FileExistsError), place.reserve(claim, []):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [claim.name]


def test_a_file_that_changes_while_it_is_published_is_not_published(tmp_path: Path) -> None:
    from envpack.publish.base import Upload
    from envpack.publish.local import LocalFolder
    from envpack.publish.release import ReleaseFiles, publish_files
    from envpack.runtime.errors import IntegrityError

    made = tmp_path / "demo.tar.gz"
    made.write_bytes(os.urandom(3 << 20))
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(IntegrityError, match="was changed while it was published"):
        publish_files(LocalFolder(tmp_path / "place"), ReleaseFiles(Upload(made.name, made, other)))
    assert names(tmp_path / "place") == []


def test_a_release_is_published_to_targets_under_one_new_name(tmp_path: Path) -> None:
    from envpack.publish.local import LocalFolder, sha256_of
    from envpack.publish.names import parse_bundle_name
    from envpack.publish.release import publish_new

    places = [LocalFolder(tmp_path / name) for name in ("dist", "one", "two")]
    (tmp_path / "two").mkdir()
    (tmp_path / f"two/demo-1-{FIRST}-linux-64.tar.gz.sha256").write_text("of another machine")
    candidates = [parse_bundle_name(f"demo-1-{date}-linux-64.tar.gz") for date in (FIRST, SECOND)]

    def release(content: bytes) -> str:
        with places[0].staging() as staging:
            finished = staging / "bundle.tar.gz"
            finished.write_bytes(content)
            found = publish_new(
                places, finished, filter(None, candidates), sha256=sha256_of(finished), documents={}
            )
        return Path(found.bundle).name

    assert release(b"bytes") == f"demo-1-{SECOND}-linux-64.tar.gz"
    for place in ("dist", "one", "two"):
        assert (tmp_path / place / f"demo-1-{SECOND}-linux-64.tar.gz").read_bytes() == b"bytes"
    assert names(tmp_path / "one") == names(tmp_path / "dist")


def test_a_target_that_fails_leaves_the_bundle_in_the_folder(tmp_path: Path) -> None:
    from envpack.publish.local import LocalFolder, sha256_of
    from envpack.publish.names import parse_bundle_name
    from envpack.publish.release import publish_new
    from envpack.runtime.errors import DestinationError

    folder, target = LocalFolder(tmp_path / "dist"), LocalFolder(tmp_path / "target")
    name = parse_bundle_name(f"demo-1-{FIRST}-linux-64.tar.gz")
    assert name is not None

    def progress(size: int) -> None:
        raise OSError(28, "No space left on device")

    with folder.staging() as staging:
        finished = staging / "bundle.tar.gz"
        finished.write_bytes(b"bytes")
        with pytest.raises(DestinationError, match="No space left") as caught:
            publish_new(
                [folder, target], finished, [name], sha256=sha256_of(finished), documents={}, progress=progress
            )
    kept = tmp_path / "dist" / str(name)
    assert f"envpack publish {kept} TARGET" in caught.value.hint
    assert kept.read_bytes() == b"bytes" and names(tmp_path / "target") == []


def test_releases_at_once_to_a_shared_target_get_names_of_their_own(tmp_path: Path) -> None:
    from envpack.publish.local import LocalFolder, sha256_of
    from envpack.publish.names import BundleName, parse_bundle_name
    from envpack.publish.release import publish_new

    first = parse_bundle_name(f"demo-1-{FIRST}-linux-64.tar.gz")
    assert first is not None
    day = first.day

    def release(machine: int) -> None:
        folder = LocalFolder(tmp_path / f"dist{machine}")
        candidates = (BundleName("demo", "1", day, "linux-64", ordinal) for ordinal in range(100))
        with folder.staging() as staging:
            finished = staging / "bundle.tar.gz"
            finished.write_bytes(b"%d" % machine)
            publish_new(
                [folder, LocalFolder(tmp_path / "shared")],
                finished,
                candidates,
                sha256=sha256_of(finished),
                documents={".manifest.json": b"{}"},
            )

    threads = [threading.Thread(target=release, args=(machine,)) for machine in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    contents = [path.read_bytes() for path in (tmp_path / "shared").glob("*.tar.gz")]
    assert sorted(contents) == [b"%d" % machine for machine in range(8)]


def test_a_publisher_that_is_killed_anywhere_is_completed_by_the_same_command(tmp_path: Path) -> None:
    made, place = named(tmp_path / "dist", "1", FIRST), tmp_path / "place"
    support = Path(__file__).parents[2] / "support/killed_at_each_call.py"
    command = [sys.executable, support, place, made.name, "publish", made, place]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


def test_notes_of_a_release_compare_it_with_the_newest_one_before(tmp_path: Path) -> None:
    from envpack.bundle.codecs import FAST
    from envpack.contents.read import read_contents
    from envpack.publish.local import LocalFolder
    from envpack.release.documents import notes_since_last

    place = tmp_path / "place"
    for version, date in (("1", FIRST), ("3", NEXT_DAY), ("2", SECOND)):
        result("publish", named(tmp_path / "dist", version, date), place)
    new = read_contents(named(tmp_path / "new", "4", NEXT_DAY), FAST).manifest
    empty = LocalFolder(tmp_path / "nothing")
    notes = notes_since_last([empty, LocalFolder(place)], new)
    assert notes is not None and notes.decode().startswith("## demo 3 → 4\n")
    (place / f"demo-3-{NEXT_DAY}-linux-64.manifest.json").write_text("{")
    notes = notes_since_last([LocalFolder(place)], new)
    assert notes is not None and notes.decode().startswith("## demo 2 → 4\n")
    assert notes_since_last([empty], new) is None

"""Names and files of a release: dated, checked, never half there, never overwritten."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from envpack.publish.base import Upload
from envpack.publish.local import LocalFolder, checksum_path, publish, sha256_of
from envpack.publish.names import BundleName
from envpack.publish.release import publish_new
from envpack.release.names import build_date, format_of, source_date_epoch
from envpack.release.work import work_folder, work_root
from envpack.runtime.errors import DestinationError, IntegrityError, UsageError
from envpack.runtime.fs.paths import is_folder

DAY = datetime(2025, 12, 19, tzinfo=timezone.utc).date()


def test_the_date_is_that_of_source_date_epoch() -> None:
    assert build_date({"SOURCE_DATE_EPOCH": "1766102400"}) == DAY
    assert build_date({"SOURCE_DATE_EPOCH": "1766188799"}) == DAY  # the last second of that day, UTC


def test_without_source_date_epoch_the_date_is_today_in_utc() -> None:
    before = datetime.now(timezone.utc).date()
    assert before <= build_date({}) <= datetime.now(timezone.utc).date()


@pytest.mark.parametrize("value", ["yesterday", "-1", "1.5", "9" * 20, "\u0661"])
def test_a_source_date_epoch_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        source_date_epoch({"SOURCE_DATE_EPOCH": value})


def test_names_are_dated_and_count_the_releases_of_a_day() -> None:
    assert BundleName("demo", "1.0", DAY, "linux-64").stem == "demo-1.0-20251219-linux-64"
    assert BundleName("demo", "1.0", DAY, "linux-64", 2).stem == "demo-1.0-20251219.2-linux-64"


def test_the_format_is_that_of_the_option_or_of_the_output_s_name() -> None:
    assert format_of(None, None) == "gz"
    assert format_of(None, Path("a.tar.zst")) == "zst"
    assert format_of("zst", Path("folder")) == "zst"
    with pytest.raises(UsageError, match="does not match"):
        format_of("gz", Path("a.tar.zst"))


def test_a_published_bundle_replaces_the_old_one_and_its_checksum_checks_out(tmp_path: Path) -> None:
    bundle = tmp_path / "demo-1.0-20251219-linux-64.tar.gz"
    for content in (b"first", b"second"):
        finished = tmp_path / "finished"
        finished.write_bytes(content)
        publish(finished, bundle, sha256_of(finished))
        assert bundle.read_bytes() == content
        subprocess.run(["sha256sum", "--check", "--strict", checksum_path(bundle).name], cwd=tmp_path, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [bundle.name, f"{bundle.name}.sha256"]


def release(folder: Path, content: bytes) -> Path:
    finished = folder / f".{content.decode()}"
    finished.write_bytes(content)
    names = (BundleName("demo", "1.0", DAY, "linux-64", ordinal) for ordinal in itertools.count())
    found = publish_new(
        [LocalFolder(folder)],
        finished,
        names,
        sha256=sha256_of(finished),
        documents={".manifest.json": content},
    )
    return Path(found.bundle)


def test_a_second_release_of_a_day_leaves_the_first_as_it_is(tmp_path: Path) -> None:
    first, second = release(tmp_path, b"first"), release(tmp_path, b"second")
    assert first.name == "demo-1.0-20251219-linux-64.tar.gz"
    assert second.name == "demo-1.0-20251219.1-linux-64.tar.gz"
    assert first.read_bytes() == b"first"
    assert (tmp_path / "demo-1.0-20251219.1-linux-64.manifest.json").read_bytes() == b"second"


def test_a_name_whose_checksum_is_published_elsewhere_is_taken(tmp_path: Path) -> None:
    (tmp_path / "demo-1.0-20251219-linux-64.tar.gz.sha256").write_text("fetched from the releases page\n")
    assert release(tmp_path, b"new").name == "demo-1.0-20251219.1-linux-64.tar.gz"


def test_releases_at_the_same_moment_get_names_of_their_own(tmp_path: Path) -> None:
    contents = [f"release-{number}".encode() for number in range(12)]
    threads = [threading.Thread(target=release, args=(tmp_path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bundles = sorted(tmp_path.glob("*.tar.gz"))
    assert sorted(bundle.read_bytes() for bundle in bundles) == sorted(contents)
    for bundle in bundles:
        assert checksum_path(bundle).read_text().split()[0] == sha256_of(bundle)


def test_a_release_that_fails_takes_its_files_back(tmp_path: Path) -> None:
    def names() -> Iterator[BundleName]:
        (tmp_path / ".finished").unlink()  # so that moving it fails, after its checksum and manifest were written
        yield demo()

    with pytest.raises(DestinationError, match="No such file"):
        publish_signed(tmp_path, names(), lambda bundle: b"signed")
    assert list(tmp_path.iterdir()) == []


def demo(ordinal: int = 0) -> BundleName:
    return BundleName("demo", "1.0", DAY, "linux-64", ordinal)


def publish_signed(folder: Path, names: Iterable[BundleName], sign: Callable[[str], bytes] | None) -> Path:
    finished = folder / ".finished"
    finished.touch()
    found = publish_new(
        [LocalFolder(folder)],
        finished,
        names,
        sha256=hashlib.sha256(b"").hexdigest(),
        documents={".manifest.json": b"{}"},
        sign=sign,
    )
    return Path(found.bundle)


def test_nothing_is_published_before_it_is_signed(tmp_path: Path) -> None:
    def refuse(bundle: str) -> bytes:
        raise UsageError(f"no key for {bundle}: {[path.name for path in tmp_path.iterdir()]}")

    with pytest.raises(UsageError, match=re.escape(f"no key for {demo()}: ['.finished']")):
        publish_signed(tmp_path, [demo()], refuse)
    assert [path.name for path in tmp_path.iterdir()] == [".finished"]


def test_a_bundle_whose_signature_can_not_be_written_is_not_published(tmp_path: Path) -> None:
    # 248 bytes with .tar.gz, 255 with .sha256 or .manifest.json, and one too many with .minisig
    with pytest.raises(DestinationError, match="File name too long"):
        publish_signed(tmp_path, [BundleName("d" * 219, "1.0", DAY, "linux-64")], lambda bundle: b"signed")
    assert [path.name for path in tmp_path.iterdir()] == [".finished"]
    unsigned = publish_signed(tmp_path, [BundleName("d" * 219, "1.0", DAY, "linux-64")], None)
    assert len(unsigned.name) == 248


def test_a_signature_of_another_bundle_takes_its_name(tmp_path: Path) -> None:
    (tmp_path / f"{demo()}.minisig").write_bytes(b"of another")
    bundle = publish_signed(tmp_path, [demo(), demo(1)], lambda bundle: f"of {bundle}".encode())
    assert bundle.name == str(demo(1))
    assert (tmp_path / f"{demo(1)}.minisig").read_bytes() == f"of {demo(1)}".encode()
    assert (tmp_path / f"{demo()}.minisig").read_bytes() == b"of another"
    unsigned = publish_signed(tmp_path, [demo(), demo(2)], None)
    assert unsigned.name == str(demo(2)) and not (tmp_path / f"{demo(2)}.minisig").exists()


def test_a_large_file_is_put_beside_a_bundle_piece_by_piece(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    with folder.staging() as staging:
        for name in ("large", "bundle"):
            (staging / name).write_bytes(name.encode() * 400_000)
        with folder.reserve(Upload("bundle.sha256", b"x", ""), ["large", "bundle"]) as release:
            release.put(Upload("large", staging / "large", sha256_of(staging / "large")))
            assert not (tmp_path / "bundle").exists()
            release.commit(Upload("bundle", staging / "bundle", ""))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle.sha256", "large"]
    assert (tmp_path / "large").read_bytes() == b"large" * 400_000


@pytest.mark.parametrize("interrupted", ["before", "after"])
def test_an_interrupt_takes_back_what_has_no_bundle(interrupted: str, tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "new")
    with pytest.raises(KeyboardInterrupt), folder.staging() as staging:
        (staging / "bundle").touch()
        with folder.reserve(Upload("bundle.sha256", b"x", ""), ["bundle"]) as release:
            if interrupted == "after":
                release.commit(Upload("bundle", staging / "bundle", ""))
            raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.rglob("*")) == (
        [] if interrupted == "before" else ["bundle", "bundle.sha256", "new"]
    )


def test_a_failed_publisher_leaves_the_files_of_a_bundle_that_another_one_completed(tmp_path: Path) -> None:
    folder, claim = LocalFolder(tmp_path / "new"), Upload.of("bundle.sha256", b"x")
    with pytest.raises(IntegrityError), folder.reserve(claim, ["bundle"]) as mine:
        mine.put(Upload.of("manifest", b"m"))
        with LocalFolder(tmp_path / "new").reserve(claim, ["bundle"], resume=True) as other:
            other.put(Upload.of("manifest", b"m"))
            other.commit(Upload.of("bundle", b"b"))
        (tmp_path / "file").write_bytes(b"changed meanwhile")
        mine.commit(Upload("bundle", tmp_path / "file", "0" * 64))
    assert folder.files() == {"bundle": 1, "bundle.sha256": 1, "manifest": 1}


def test_a_pointer_that_another_publisher_wrote_since_it_was_read_is_not_replaced(tmp_path: Path) -> None:
    mine, other = LocalFolder(tmp_path), LocalFolder(tmp_path)
    with pytest.raises(FileNotFoundError):
        mine.read("pointer")
    other.replace(Upload.of("pointer", b"other"))
    with pytest.raises(FileExistsError):
        mine.replace(Upload.of("pointer", b"mine"))
    assert mine.read("pointer") == b"other"
    mine.replace(Upload.of("pointer", b"mine"))
    assert other.read("pointer") == b"mine"


def test_a_file_that_vanishes_while_a_folder_is_listed_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    entries = os.scandir

    @contextmanager
    def with_removal(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with entries(folder) as found:
            all_of_them = list(found)
            (tmp_path / "b").unlink()
            yield iter(all_of_them)

    monkeypatch.setattr(os, "scandir", with_removal)
    assert LocalFolder(tmp_path).files() == {"a": 0, "c": 0}


def test_work_is_done_in_the_users_cache_unless_another_place_is_named() -> None:
    assert work_root({"HOME": "/home/me"}) == Path("/home/me/.cache/envpack/work")
    assert work_root({"HOME": "/home/me", "XDG_CACHE_HOME": "/cache"}) == Path("/cache/envpack/work")
    assert work_root({"HOME": "/home/me", "XDG_CACHE_HOME": "relative"}) == Path("/home/me/.cache/envpack/work")
    assert work_root({"HOME": "/home/me", "ENVPACK_WORK": "/scratch"}) == Path("/scratch")


def test_a_work_folder_goes_away_with_read_only_folders_in_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), work_folder(tmp_path) as work:
        (work / "a" / "b").mkdir(parents=True)
        (work / "a" / "b" / "file").touch()
        (work / "a" / "b").chmod(0o555)
        (work / "a").chmod(0o500)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    dead.mkdir()
    (dead / ".lock").touch()
    other = tmp_path / "not-ours"
    other.mkdir()
    with work_folder(tmp_path) as first, work_folder(tmp_path) as second:
        assert first.is_dir() and second.is_dir() and first != second
        assert not dead.exists() and other.is_dir()


def test_a_work_folder_that_its_process_removes_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "build-1").mkdir()
    (tmp_path / "build-1/.lock").touch()

    def seen_and_removed(folder: Path) -> bool:
        found = is_folder(folder)
        if found:
            shutil.rmtree(folder)
        return found

    monkeypatch.setattr("envpack.release.work.is_folder", seen_and_removed)
    with work_folder(tmp_path) as work:
        assert [work.name] == [path.name for path in tmp_path.iterdir() if path.name != ".lock"]


def test_a_work_folder_has_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with work_folder(Path("work")) as folder:
        assert folder.parent == tmp_path / "work"


def test_a_work_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DestinationError, match="work directory") as caught, work_folder(tmp_path / "file"):
        pass
    assert "--work-dir" in caught.value.hint

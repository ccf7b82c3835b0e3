"""Publishing in generic packages on GitLab: the bundle last, nothing lost, whatever fails."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from envpack.publish.git_hosts.gitlab import GitLabPackages, package_of
from envpack.publish.git_hosts.project import PackageName
from envpack.publish.listing import list_releases
from envpack.publish.names import BundleName, parse_bundle_name
from envpack.publish.release import ReleaseFiles, publish_files, publish_new
from envpack.runtime.errors import DestinationError, EnvpackError, IntegrityError, UsageError
from envpack.runtime.transport.http import pool
from support.command_line import envpack
from support.gitlab_server import TOKEN, GitLab, gitlab_serving
from support.releases import FAULTS, LIMIT, NAME, at, contents_of, files, large, publish_in_child
from support.rest_server import DroppedError, RefusalError
from support.sample_deployments import bundle as sample
from support.sample_deployments import whole_version

TARGET = "gitlab:team/envs"
PACKAGE = "demo/1-20251219"


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    with gitlab_serving() as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BACKOFF_SECONDS", 0.001)


def place(gitlab: GitLab, target: str = TARGET, **how: Any) -> GitLabPackages:
    return GitLabPackages(target, gitlab.environ(), **how)


def expected(files: ReleaseFiles) -> dict[str, bytes]:
    return {f"{PACKAGE}/{name}": content for name, content in contents_of(files).items()}


@pytest.mark.parametrize("target", [TARGET, "gitlab:42", "GITLAB://team/envs"])
def test_a_release_is_published_whole_and_again_changes_nothing(
    target: str, gitlab: GitLab, tmp_path: Path
) -> None:
    release = files(tmp_path)
    assert publish_files(place(gitlab, target), release)
    assert gitlab.seen() == expected(release)
    [package] = gitlab.packages.values()
    names = [file["file_name"] for file in package["files"]]
    assert names[0] == release.claim.name and names[-1] == NAME
    assert gitlab.count("PUT") == 4
    assert not publish_files(place(gitlab, target), release)
    assert gitlab.count("PUT") == 4 and not gitlab.leaked


def test_what_is_published_is_listed_and_read_without_a_token(gitlab: GitLab, tmp_path: Path) -> None:
    release = files(tmp_path)
    publish_files(place(gitlab), release)
    gitlab.add("tool", "3.1", "tool.zip", b"something else")
    anonymous = GitLabPackages(TARGET, gitlab.environ(GITLAB_TOKEN=""))
    assert anonymous.files() == {name: len(content) for name, content in contents_of(release).items()}
    assert anonymous.read(release.claim.name) == release.claim.content
    for name in ("other", "other-1-20251219-linux-64.tar.gz"):
        with pytest.raises(FileNotFoundError):
            anonymous.read(name)
    assert anonymous.address(NAME) == f"{gitlab.url}/api/v4/projects/team%2Fenvs/packages/generic/{PACKAGE}/{NAME}"
    assert not anonymous.replaces
    with pytest.raises(UsageError, match="needs a token"):
        publish_files(anonymous, files(tmp_path, "demo-2-20251219-linux-64.tar.gz"))


def test_a_list_of_releases_downloads_no_checksums(gitlab: GitLab, tmp_path: Path) -> None:
    releases = [files(tmp_path, f"demo-{number}-20251219-linux-64.tar.gz", b"%d" % number) for number in range(3)]
    for release in releases:
        publish_files(place(gitlab), release)
    gitlab.requests.clear()
    listed = list_releases(place(gitlab))
    assert {each.sha256 for each in listed} == {release.bundle.sha256 for release in releases}
    assert not gitlab.count("GET /storage") and len(gitlab.requests) <= 4


def test_another_bundle_under_the_name_is_refused(gitlab: GitLab, tmp_path: Path) -> None:
    publish_files(place(gitlab), files(tmp_path))
    before = gitlab.seen()
    with pytest.raises(DestinationError, match="another bundle"):
        publish_files(place(gitlab), files(tmp_path, content=b"other"))
    assert gitlab.seen() == before and gitlab.count("PUT") == 4


def test_the_files_of_all_platforms_are_in_one_package(gitlab: GitLab, tmp_path: Path) -> None:
    first, second = files(tmp_path), files(tmp_path, "demo-1-20251219-linux-aarch64.tar.gz", b"second")
    assert publish_files(place(gitlab), first) and publish_files(place(gitlab), second)
    assert gitlab.seen() == expected(first) | expected(second) and len(gitlab.packages) == 1
    assert not publish_files(place(gitlab, bundles=[NAME]), first)


@pytest.mark.parametrize("duplicates", [True, False])
def test_releases_of_a_day_at_once_are_all_whole(duplicates: bool, gitlab: GitLab, tmp_path: Path) -> None:
    gitlab.duplicates = duplicates
    contents = [b"one" * 50_000, b"two" * 50_000, b"three" * 50_000]
    name = parse_bundle_name(NAME)
    assert name is not None
    day, subdir = name.day, name.subdir

    def run(content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        finished = tmp_path / sha256
        finished.write_bytes(content)
        names = (BundleName("demo", "1", day, subdir, ordinal) for ordinal in range(9))
        publish_new([place(gitlab)], finished, names, sha256=sha256, documents={".manifest.json": b"{}"})

    threads = [threading.Thread(target=run, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = gitlab.seen()
    bundles = {name: content for name, content in seen.items() if name.endswith(".tar.gz")}
    assert sorted(bundles.values()) == sorted(contents) and len(seen) == 9
    for name_, content in bundles.items():
        line = f"{hashlib.sha256(content).hexdigest()}  {name_.rpartition('/')[2]}\n"
        assert seen[f"{name_}.sha256"] == line.encode()
    assert sum(len(package["files"]) for package in gitlab.packages.values()) == 9


def test_two_processes_may_publish_the_same(gitlab: GitLab, tmp_path: Path) -> None:
    release = large(tmp_path)
    problems: list[EnvpackError] = []

    def run() -> None:
        try:
            publish_files(place(gitlab, limit=LIMIT), release)
        except EnvpackError as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert place(gitlab).files()[NAME] == release.bundle.size


def test_files_of_one_name_that_differ_are_told(gitlab: GitLab, tmp_path: Path) -> None:
    release = files(tmp_path)
    publish_files(place(gitlab), release)
    gitlab.add("demo", "1-20251219", release.claim.name, b"of another")
    with pytest.raises(DestinationError, match="several files that differ"):
        publish_files(place(gitlab), release)


@pytest.mark.parametrize(
    ("when", "step"),
    [("after", 3), *(pytest.param(when, 1, marks=pytest.mark.long) for when in ("before", "after"))],
)
def test_a_publisher_killed_at_any_request_is_continued(when: str, step: int, tmp_path: Path) -> None:
    release = large(tmp_path)
    number, requests, killed = 1 - step, 1, 0
    while number < requests:
        number += step
        child: Queue[subprocess.Popen[bytes]] = Queue()

        def kill(child: Queue[subprocess.Popen[bytes]] = child) -> Exception:
            child.get().kill()
            return DroppedError()

        with gitlab_serving(fault=at(number, when, kill)) as gitlab:
            started = publish_in_child(GitLabPackages, TARGET, gitlab.environ(), release)
            child.put(started)
            code = started.wait()
            requests = max(requests, len(gitlab.requests) + (code != 0))
            assert code == (-signal.SIGKILL if number < requests else code)
            killed += code != 0
            whole = NAME in place(gitlab).files()
            assert publish_files(place(gitlab, limit=LIMIT), release) is not whole
            assert place(gitlab).files()[NAME] == release.bundle.size and len(gitlab.packages) == 1
            assert sorted(gitlab.seen()) == sorted(
                f"{PACKAGE}/{file['file_name']}"
                for package in gitlab.packages.values()
                for file in package["files"]
            )
            assert not publish_files(place(gitlab, limit=LIMIT), release)
    assert killed > 10 // step


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_one_failure_of_the_server_is_survived_at_any_request(what: str, when: str, tmp_path: Path) -> None:
    release = files(tmp_path)
    number, requests = 1, 100
    while number <= requests:
        if what != "is busy" or (when == "before" and number in (1, 4)):  # the second of waiting is long
            with gitlab_serving(fault=at(number, when, FAULTS[what])) as gitlab:
                assert publish_files(place(gitlab), release)
                assert gitlab.seen() == expected(release)
                requests = min(requests, len(gitlab.requests))
        number += 1


@pytest.mark.parametrize("uploads", [1, 3, 6])
def test_a_token_that_expires_midway_leaves_no_bundle(uploads: int, gitlab: GitLab, tmp_path: Path) -> None:
    release = large(tmp_path)

    def expire(count: int, request: str, moment: str) -> None:
        if gitlab.count("PUT") == uploads and moment == "after":
            gitlab.token = "another"

    gitlab.fault = expire
    with pytest.raises(DestinationError, match="401: 401 Unauthorized") as caught:
        publish_files(place(gitlab, limit=LIMIT), release)
    assert TOKEN not in str(caught.value) + caught.value.hint
    gitlab.fault, gitlab.token = None, TOKEN
    assert NAME not in place(gitlab).files()
    assert publish_files(place(gitlab, limit=LIMIT), release)
    assert place(gitlab).files()[NAME] == release.bundle.size


def test_a_failure_takes_everything_back(gitlab: GitLab, tmp_path: Path) -> None:
    def fail(count: int, request: str, moment: str) -> None:
        if request.startswith("PUT") and gitlab.count("PUT") > 2:
            raise RefusalError(503)

    gitlab.fault = fail
    with pytest.raises(DestinationError, match="responded 503"):
        publish_files(place(gitlab), files(tmp_path))
    assert gitlab.packages == {}


def test_files_that_arrive_damaged_are_uploaded_again(gitlab: GitLab, tmp_path: Path) -> None:
    gitlab.alter = 3
    release = files(tmp_path)
    publish_files(place(gitlab), release)
    assert gitlab.seen() == expected(release)
    gitlab.alter = 1000
    with pytest.raises(DestinationError, match="damaged on its way"):
        publish_files(place(gitlab), files(tmp_path, "demo-2-20251219-linux-64.tar.gz"))
    assert gitlab.seen() == expected(release)


def test_what_an_interrupted_process_left_is_replaced_also_without_digests(gitlab: GitLab, tmp_path: Path) -> None:
    gitlab.digests = False
    release = files(tmp_path)
    gitlab.add("demo", "1-20251219", release.claim.name, next(release.claim.chunks()))
    gitlab.add("demo", "1-20251219", release.documents[0].name, b"??\n")
    publish_files(place(gitlab), release)
    assert gitlab.seen() == expected(release) and not gitlab.leaked


def test_a_token_that_may_not_delete_is_enough(gitlab: GitLab, tmp_path: Path) -> None:
    gitlab.deletes = False
    release = files(tmp_path)
    gitlab.add("demo", "1-20251219", release.claim.name, next(release.claim.chunks()))
    gitlab.add("demo", "1-20251219", release.documents[0].name, b"??\n")
    publish_files(GitLabPackages(TARGET, gitlab.environ(GITLAB_TOKEN="", CI_JOB_TOKEN=TOKEN)), release)
    assert gitlab.seen() == expected(release)


def test_a_bundle_that_changes_meanwhile_is_not_published(gitlab: GitLab, tmp_path: Path) -> None:
    release = files(tmp_path)
    (tmp_path / NAME).write_bytes(b"of a BUNDLE" * 1000)
    with pytest.raises(IntegrityError, match="changed while it was published"):
        publish_files(place(gitlab), release)
    assert gitlab.packages == {}


def test_a_bundle_without_the_name_of_a_release_is_refused(gitlab: GitLab, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"demo\.tar\.gz has not the name of a release"):
        publish_files(place(gitlab), files(tmp_path, "demo.tar.gz"))


def test_projects_that_are_not_there_are_told(gitlab: GitLab) -> None:
    with pytest.raises(DestinationError, match="there is no project team/other"):
        place(gitlab, "gitlab:team/other").files()
    gitlab.public = False
    with pytest.raises(DestinationError, match="there is no project"):
        GitLabPackages(TARGET, {"CI_API_V4_URL": f"{gitlab.url}/api/v4"}).files()


@pytest.mark.parametrize(
    "target", ["gitlab:", "gitlab:/x", "gitlab:team//x", "gitlab:../x", "gitlab:a b", "gitlab:x?y"]
)
def test_a_target_that_is_not_valid_is_refused(target: str) -> None:
    with pytest.raises(UsageError):
        GitLabPackages(target, {})


def test_the_package_of_a_file_is_that_of_its_bundle() -> None:
    stem = "my-env-1.0+cu12-20251219.2-linux-64"
    for end in (".tar.gz", ".tar.zst.sha256", ".manifest.json", ".tar.gz.001", ".tar.gz.parts.json"):
        assert package_of(stem + end) == PackageName("my-env", "1.0+cu12-20251219.2")
    assert package_of("demo-latest-linux-64.json") is None


def run(gitlab: GitLab, *words: object) -> Any:
    done = envpack(*words, "--json", **gitlab.environ())
    assert TOKEN not in done.out + done.err
    document = json.loads(done.out)
    assert done.code == 0, document["error"]
    return document["result"]["releases"]


def test_commands_publish_list_and_deploy(gitlab: GitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / NAME
    sample(tmp_path, "1").rename(path)
    [published] = run(gitlab, "publish", path, TARGET)
    [listed] = run(gitlab, "releases", TARGET)
    assert listed["sha256"] == published["sha256"] and listed["bundle"] == published["bundle"]
    gitlab.public = False  # hosts have a token in ~/.netrc then
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login any password {TOKEN}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    done = envpack("deploy", published["bundle"], tmp_path / "x")
    assert done.code == 0, done.err
    assert whole_version(tmp_path / "x") == "1" and not gitlab.leaked


def test_a_bundle_in_parts_is_deployed_by_its_address(gitlab: GitLab, tmp_path: Path) -> None:
    publisher = place(gitlab, limit=LIMIT)
    publish_files(publisher, large(tmp_path))
    done = envpack("deploy", publisher.address(NAME), tmp_path / "x")
    assert done.code == 0, done.err
    assert (tmp_path / "x/lib/c").stat().st_size == 1600 * 64


def test_a_missing_token_is_told_before_a_bundle_is_read_or_built(tmp_path: Path) -> None:
    for words in (("publish", tmp_path / NAME, TARGET), ("release", tmp_path / "none.yml", "--to", TARGET)):
        done = envpack(*words)
        assert done.code == 2 and "needs a token" in done.err

"""Publishing in releases on GitHub: nothing half-visible, nothing lost, whatever fails."""

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

from envpack.publish.git_hosts import draft
from envpack.publish.git_hosts.github import GitHubReleases
from envpack.publish.listing import list_releases
from envpack.publish.names import BundleName, parse_bundle_name
from envpack.publish.release import ReleaseFiles, publish_files, publish_new
from envpack.runtime.errors import DestinationError, EnvpackError, IntegrityError, UsageError
from envpack.runtime.transport.documents import read_parts
from envpack.runtime.transport.http import connection, pool
from support.command_line import envpack
from support.github_server import TOKEN, GitHub, github_serving
from support.releases import FAULTS, LIMIT, NAME, STEM, at, contents_of, files, large, publish_in_child
from support.rest_server import DroppedError, RefusalError
from support.sample_deployments import bundle as sample
from support.sample_deployments import whole_version

TARGET = "github:team/bundles@v1"


@pytest.fixture
def github() -> Iterator[GitHub]:
    with github_serving() as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(draft, "POLL", 0.01)
    monkeypatch.setattr(draft, "PATIENCE", 0.1)


def place(github: GitHub, target: str = TARGET, **how: Any) -> GitHubReleases:
    return GitHubReleases(target, github.environ(), **how)


def expected(files: ReleaseFiles, tag: str = "v1") -> dict[str, bytes]:
    return {f"{tag}/{name}": content for name, content in contents_of(files).items()}


def test_a_release_is_published_whole_and_again_changes_nothing(github: GitHub, tmp_path: Path) -> None:
    release = files(tmp_path)
    assert publish_files(place(github), release)
    assert github.published() == expected(release)
    [hosted] = github.releases.values()
    assert hosted["tag_name"] == "v1" and not hosted["draft"]
    writes = len([request for request in github.requests if not request.startswith("GET")])
    assert writes == 6  # the draft, four files, and its publication
    assert not publish_files(place(github), release)
    assert len([request for request in github.requests if not request.startswith("GET")]) == writes
    assert not github.leaked


def test_what_is_published_is_listed_and_read_without_a_token(github: GitHub, tmp_path: Path) -> None:
    release = files(tmp_path)
    publish_files(place(github), release)
    anonymous = GitHubReleases(TARGET, github.environ(GITHUB_TOKEN=""))
    sizes = {name.partition("/")[2]: len(content) for name, content in expected(release).items()}
    assert anonymous.files() == sizes
    assert anonymous.read(release.claim.name) == release.claim.content
    with pytest.raises(FileNotFoundError):
        anonymous.read("other")
    assert anonymous.address(NAME) == f"{github.url}/team/bundles/releases/download/v1/{NAME}"
    assert not anonymous.replaces
    with pytest.raises(UsageError, match="needs a token"):
        publish_files(anonymous, files(tmp_path, "other.tar.gz"))


def test_a_draft_is_not_listed(github: GitHub) -> None:
    github.add(github.new_release("v1"), NAME, b"x")
    assert place(github).files() == {}
    assert place(github, "github:team/bundles").files() == {}


def test_a_list_of_releases_downloads_no_checksums(github: GitHub, tmp_path: Path) -> None:
    releases = [files(tmp_path, f"demo-{number}-20251219-linux-64.tar.gz", b"%d" % number) for number in range(3)]
    for release in releases:
        publish_files(place(github), release)
    github.requests.clear()
    listed = list_releases(place(github, "github:team/bundles"))
    assert {each.sha256 for each in listed} == {release.bundle.sha256 for release in releases}
    assert not github.count("GET /storage") and len(github.requests) <= 4


def test_another_bundle_under_the_name_is_refused(github: GitHub, tmp_path: Path) -> None:
    publish_files(place(github), files(tmp_path))
    before = github.published()
    with pytest.raises(DestinationError, match="another bundle"):
        publish_files(place(github), files(tmp_path, content=b"other"))
    assert github.published() == before and not github.drafts()


def test_a_second_bundle_is_added_to_a_published_release(github: GitHub, tmp_path: Path) -> None:
    first, second = files(tmp_path), files(tmp_path, "demo-2-20251219-linux-64.tar.gz", b"second")
    publish_files(place(github), first)
    assert publish_files(place(github), second)
    assert github.published() == expected(first) | expected(second)
    assert github.count("POST /api/repos") == 1


def test_nothing_is_added_to_an_immutable_release(github: GitHub, tmp_path: Path) -> None:
    github.immutable = True
    first, second = files(tmp_path), files(tmp_path, "demo-2-20251219-linux-64.tar.gz", b"second")
    publish_files(place(github), first)
    with pytest.raises(DestinationError, match="v1 of team/bundles is published and immutable") as caught:
        publish_files(place(github), second)
    assert "new tag" in caught.value.hint
    assert github.published() == expected(first)
    assert not publish_files(place(github), first)


def test_several_bundles_of_one_command_are_published_together(github: GitHub, tmp_path: Path) -> None:
    github.immutable = True
    both = [files(tmp_path), files(tmp_path, "demo-2-20251219-linux-64.tar.gz", b"second")]
    names = [each.bundle.name for each in both]
    publisher = place(github, bundles=names)
    assert publish_files(publisher, both[0])
    assert not github.published() and github.drafts() == expected(both[0])
    assert publish_files(publisher, both[1])
    assert github.published() == expected(both[0]) | expected(both[1])
    again = place(github, bundles=names)
    assert [publish_files(again, each) for each in both] == [False, False]


def test_without_a_tag_each_bundle_has_a_release_of_its_own(github: GitHub, tmp_path: Path) -> None:
    github.immutable = True
    github.add(github.new_release("v7", draft=False), "program.zip", b"code")
    first, second = files(tmp_path), files(tmp_path, "demo-2-20251219-linux-64.tar.gz", b"second")
    publisher = place(github, "github:team/bundles")
    assert publish_files(publisher, first) and publish_files(publisher, second)
    tags = [release["tag_name"] for release in github.releases.values()]
    assert tags == ["v7", STEM, "demo-2-20251219-linux-64"]
    assert publisher.address(NAME) == f"{github.url}/team/bundles/releases/download/{STEM}/{NAME}"
    listed = place(github, "github:team/bundles")
    assert {NAME, second.bundle.name, "program.zip"} < listed.files().keys()
    assert listed.address(second.documents[0].name).endswith(
        "download/demo-2-20251219-linux-64/demo-2-20251219-linux-64.manifest.json"
    )
    assert not publish_files(listed, first)
    with pytest.raises(DestinationError, match="another bundle"):
        publish_files(listed, files(tmp_path, content=b"other"))


def test_the_tag_is_that_of_the_commit_of_the_workflow(github: GitHub, tmp_path: Path) -> None:
    environ = github.environ(GITHUB_REPOSITORY="Team/Bundles", GITHUB_SHA="0123abc")
    publish_files(GitHubReleases(TARGET, environ), files(tmp_path))
    publish_files(
        GitHubReleases("github:team/bundles@v2", {**environ, "GITHUB_REPOSITORY": "x/y"}), files(tmp_path)
    )
    assert [release["target_commitish"] for release in github.releases.values()] == ["0123abc", "main"]


def test_a_prepared_draft_is_used(github: GitHub, tmp_path: Path) -> None:
    prepared = github.new_release("v1", body="notes")
    github.add(prepared, "notes.txt", b"notes")
    release = files(tmp_path)
    publish_files(place(github), release)
    assert github.published() == {**expected(release), "v1/notes.txt": b"notes"}


def released(github: GitHub, target: str, content: bytes, folder: Path, **how: Any) -> str:
    folder.mkdir(exist_ok=True)
    finished = folder / hashlib.sha256(content).hexdigest()
    finished.write_bytes(content)
    name = parse_bundle_name(NAME)
    assert name is not None
    names = (BundleName(name.name, name.version, name.day, name.subdir, ordinal) for ordinal in range(9))
    sha256 = hashlib.sha256(content).hexdigest()
    documents = {".manifest.json": b"{}"}
    return publish_new([place(github, target, **how)], finished, names, sha256=sha256, documents=documents).bundle


@pytest.mark.parametrize("target", [TARGET, "github:team/bundles"])
def test_two_releases_of_a_day_at_once_are_both_whole(target: str, github: GitHub, tmp_path: Path) -> None:
    contents = [b"one" * 50_000, b"two" * 50_000, b"three" * 50_000]
    found: list[str] = []

    def run(content: bytes) -> None:
        found.append(released(github, target, content, tmp_path))

    threads = [threading.Thread(target=run, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 3
    seen = github.published()
    bundles = {name: content for name, content in seen.items() if name.endswith(".tar.gz")}
    assert sorted(bundles.values()) == sorted(contents) and len(seen) == 9 and not github.drafts()
    for name, content in bundles.items():
        line = f"{hashlib.sha256(content).hexdigest()}  {name.partition('/')[2]}\n"
        assert seen[f"{name}.sha256"] == line.encode()


def test_two_processes_may_publish_the_same(github: GitHub, tmp_path: Path) -> None:
    release = large(tmp_path)
    problems: list[EnvpackError] = []

    def run() -> None:
        try:
            publish_files(place(github, limit=LIMIT), release)
        except EnvpackError as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert place(github).files()[NAME] == release.bundle.size
    assert not github.drafts()


def test_a_large_bundle_is_cut_where_segments_begin(github: GitHub, tmp_path: Path) -> None:
    release = large(tmp_path)
    told: list[int] = []
    publisher = place(github, limit=LIMIT)
    assert publish_files(publisher, release.reporting(told.append))
    seen = {name.removeprefix("v1/"): content for name, content in github.published().items()}
    content = (tmp_path / NAME).read_bytes()
    assert NAME not in seen and sum(told) == len(content)
    split = read_parts(seen[f"{NAME}.parts.json"], "parts.json")
    assert (split.name, split.size, split.sha256) == (NAME, len(content), release.bundle.sha256)
    for part in split.parts:
        assert len(seen[part.name]) == part.size <= LIMIT
        assert hashlib.sha256(seen[part.name]).hexdigest() == part.sha256
    for name, data in seen.items():
        (tmp_path / "down").mkdir(exist_ok=True)
        (tmp_path / "down" / name).write_bytes(data)
    subprocess.run(
        f"cat {NAME}.0* > {NAME} && sha256sum --check --strict {NAME}.sha256",
        shell=True,
        cwd=tmp_path / "down",
        check=True,
        stdout=subprocess.DEVNULL,
    )
    assert publisher.address(NAME).endswith(f"/v1/{NAME}.parts.json")
    assert place(github).files()[NAME] == len(content)
    assert not publish_files(place(github, limit=LIMIT), release)


def test_the_list_of_parts_is_uploaded_last(github: GitHub, tmp_path: Path) -> None:
    github.new_release("v1", draft=False)
    publish_files(place(github, limit=LIMIT), large(tmp_path))
    [hosted] = github.releases.values()
    names = [asset["name"] for asset in hosted["all"]]
    assert names[0] == f"{NAME}.sha256" and names[-1] == f"{NAME}.parts.json"


def test_a_file_that_is_too_large_and_no_bundle_is_refused(github: GitHub, tmp_path: Path) -> None:
    with pytest.raises(EnvpackError):
        publish_files(place(github, limit=100), files(tmp_path))
    assert github.published() == {} and github.releases == {}


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

        with github_serving(fault=at(number, when, kill)) as github:
            started = publish_in_child(GitHubReleases, TARGET, github.environ(), release)
            child.put(started)
            code = started.wait()
            requests = max(requests, len(github.requests) + (code != 0))
            if code == 0:  # such as a request for something that is not there, which is not done
                continue
            assert code == -signal.SIGKILL
            killed += 1
            whole = place(github).files().get(NAME) == release.bundle.size
            assert whole or github.published() == {}
            assert publish_files(place(github, limit=LIMIT), release) is not whole
            assert len(github.releases) == 1 and place(github).files()[NAME] == release.bundle.size
            assert not publish_files(place(github, limit=LIMIT), release)
    assert killed > 10 // step


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_one_failure_of_the_server_is_survived_at_any_request(what: str, when: str, tmp_path: Path) -> None:
    release = files(tmp_path)
    number, requests = 1, 100
    while number <= requests:
        if what == "is busy" and (when == "after" or number not in (1, 5)):
            number += 1  # such a request is not done, and the second of waiting is long
            continue
        with github_serving(fault=at(number, when, FAULTS[what])) as github:
            assert publish_files(place(github), release)
            assert github.published() == expected(release) and not github.drafts()
            requests = len(github.requests) if requests == 100 else requests
        number += 1


@pytest.mark.parametrize("uploads", [2, 5, 7])
def test_a_token_that_expires_midway_leaves_nothing_visible(uploads: int, github: GitHub, tmp_path: Path) -> None:
    release = large(tmp_path)

    def expire(count: int, request: str, moment: str) -> None:
        if github.count("POST /uploads") == uploads:
            github.token = "another"

    github.fault = expire
    with pytest.raises(DestinationError, match="401: Bad credentials") as caught:
        publish_files(place(github, limit=LIMIT), release)
    assert "expired" in caught.value.hint and TOKEN not in str(caught.value) + caught.value.hint
    assert github.published() == {} and github.drafts()
    github.fault, github.token = None, TOKEN
    assert publish_files(place(github, limit=LIMIT), release)
    assert place(github).files()[NAME] == release.bundle.size


def test_a_wrong_token_is_refused_at_once(github: GitHub, tmp_path: Path) -> None:
    github.token = "another"
    with pytest.raises(DestinationError, match="401: Bad credentials"):
        publish_files(place(github), files(tmp_path))
    assert len(github.requests) == 1


def test_a_server_that_is_down_midway_gets_everything_taken_back_when_it_can(
    github: GitHub, tmp_path: Path
) -> None:
    def fail(count: int, request: str, moment: str) -> None:
        if request.startswith("POST /uploads") and github.count("POST /uploads") > 2:
            raise RefusalError(503)

    github.fault = fail
    with pytest.raises(DestinationError, match=r"responded 503 \(1 times\)|responded 503"):
        publish_files(place(github), files(tmp_path))
    assert github.releases == {}


def test_files_that_arrive_damaged_are_uploaded_again(github: GitHub, tmp_path: Path) -> None:
    github.alter = 3
    release = files(tmp_path)
    publish_files(place(github), release)
    assert github.published() == expected(release)


def test_a_server_that_damages_all_files_gets_none(github: GitHub, tmp_path: Path) -> None:
    github.alter = 1000
    with pytest.raises(DestinationError, match="damaged on its way"):
        publish_files(place(github), files(tmp_path))
    assert github.releases == {}


def test_a_server_without_digests_is_asked_for_the_files(github: GitHub, tmp_path: Path) -> None:
    github.digests = False
    release = files(tmp_path)
    left = github.new_release("v1")
    github.add(left, release.claim.name, bytes(release.claim.chunks().__next__()))
    github.add(left, release.documents[0].name, b"??\n")
    publish_files(place(github), release)
    assert github.published() == expected(release) and not github.leaked


def test_a_server_that_stalls_is_given_up(github: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.2)
    goes_on = threading.Event()

    def stall(count: int, request: str, moment: str) -> None:
        if request.startswith("PATCH") and moment == "before":
            goes_on.wait()
            raise DroppedError

    github.fault = stall
    try:
        with pytest.raises(DestinationError, match="timed out"):
            publish_files(place(github), files(tmp_path))
    finally:
        goes_on.set()
    assert github.published() == {}


@pytest.mark.parametrize("claim", ["starter", "uploaded", ""])
def test_what_an_interrupted_upload_left_is_replaced(claim: str, github: GitHub, tmp_path: Path) -> None:
    release = files(tmp_path)
    left = github.new_release("v1")
    if claim:
        content = b"" if claim == "starter" else next(release.claim.chunks())
        github.add(left, release.claim.name, content, claim)
    github.add(left, NAME, b"", "starter")
    assert publish_files(place(github), release)
    assert github.published() == expected(release)


def test_a_bundle_that_changes_meanwhile_is_not_published(github: GitHub, tmp_path: Path) -> None:
    release = files(tmp_path)
    (tmp_path / NAME).write_bytes(b"of a BUNDLE" * 1000)
    with pytest.raises(IntegrityError, match="changed while it was published"):
        publish_files(place(github), release)
    assert github.published() == {} and github.releases == {}


def test_the_end_of_a_rate_limit_is_waited_for(
    github: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("envpack.publish.git_hosts.api.time.sleep", waits.append)
    monkeypatch.setattr("envpack.publish.git_hosts.api.time.time", lambda: 1000.0)
    limits = {
        2: RefusalError(
            403,
            {"message": "API rate limit exceeded"},
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1100"},
        ),
        4: RefusalError(403, {"message": "You have exceeded a secondary rate limit"}),
        6: RefusalError(429, None, {"Retry-After": "7"}),
    }

    def limit(count: int, request: str, moment: str) -> None:
        if count in limits and moment == "before":
            raise limits[count]

    github.fault = limit
    release = files(tmp_path)
    assert publish_files(place(github), release)
    assert waits == [100.0, 60.0, 7.0] and github.published() == expected(release)


def test_a_long_rate_limit_is_an_error(github: GitHub, tmp_path: Path) -> None:
    def limit(count: int, request: str, moment: str) -> None:
        raise RefusalError(
            403, {"message": "rate limit"}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}
        )

    github.fault = limit
    with pytest.raises(DestinationError, match="403: rate limit") as caught:
        publish_files(place(github), files(tmp_path))
    assert "minutes" in caught.value.hint


def test_a_release_with_too_many_files_is_refused(github: GitHub, tmp_path: Path) -> None:
    full = github.new_release("v1", draft=False)
    for number in range(draft.MOST_ASSETS):
        github.add(full, str(number), b"")
    with pytest.raises(DestinationError, match=r"has 1000 files, and can have 1,000"):
        publish_files(place(github), files(tmp_path))


def test_a_name_that_github_changes_is_refused(github: GitHub, tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="changes the name"):
        publish_files(place(github), files(tmp_path, "d\u00e9mo-1-20251219-linux-64.tar.gz"))
    assert github.releases == {}


def test_an_unfinished_bundle_in_the_same_draft_is_waited_for(
    github: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    github.immutable = True
    other = github.new_release("v1")
    github.add(other, "other.tar.gz.sha256", b"of another")
    release = files(tmp_path)
    monkeypatch.setattr(draft, "OTHERS_PATIENCE", 0.05)
    with pytest.raises(DestinationError, match=r"the upload of other.tar.gz is not finished"):
        publish_files(place(github), release)
    assert github.published() == {} and github.drafts().keys() > expected(release).keys()
    monkeypatch.setattr(draft, "OTHERS_PATIENCE", 60.0)

    polls = f"GET /api/repos/team/bundles/releases/{other['id']}/assets"
    before = github.count(polls)

    def finish(count: int, request: str, moment: str) -> None:
        if (github.count(polls), moment) == (before + 5, "before"):
            github.add(other, "other.tar.gz", b"finished")

    github.fault = finish
    assert publish_files(place(github), release)
    assert github.published().keys() > expected(release).keys()


@pytest.mark.parametrize(
    "target",
    ["github:team", "github:team/bundles@", "github:a/b/c@v1", "github:team/bundles@v 1", "github:../x@v1\x1b[2J"],
)
def test_a_target_that_is_not_valid_is_refused(target: str) -> None:
    with pytest.raises(UsageError):
        GitHubReleases(target, {})


def test_http_is_for_this_host_only() -> None:
    environ = {"GITHUB_API_URL": "http://github.example.org/api/v3"}
    with pytest.raises(UsageError, match="has no TLS"):
        GitHubReleases(TARGET, environ)
    GitHubReleases(TARGET, environ, insecure=True)
    with pytest.raises(UsageError):
        GitHubReleases(TARGET, {"GITHUB_API_URL": "file:///etc"})


def test_an_unknown_repository_is_an_error(github: GitHub) -> None:
    with pytest.raises(DestinationError, match="there is no repository team/other"):
        GitHubReleases("github:team/other", github.environ()).files()


def run(github: GitHub, *words: object) -> Any:
    done = envpack(*words, "--json", **github.environ())
    assert TOKEN not in done.out + done.err
    document = json.loads(done.out)
    assert done.code == 0, document["error"]
    return document["result"]["releases"]


def test_commands_publish_list_and_deploy(github: GitHub, tmp_path: Path) -> None:
    github.immutable = True
    path = tmp_path / NAME
    sample(tmp_path, "1").rename(path)
    for target in (TARGET, "github:team/bundles"):
        github.releases.clear()
        [published] = run(github, "publish", path, target)
        assert published["published"] and published["latest"] is None
        [listed] = run(github, "releases", target, "--name", "demo")[:1]
        assert listed["sha256"] == published["sha256"] and listed["size"] == path.stat().st_size
        assert listed["bundle"] == published["bundle"]
        [again] = run(github, "publish", path, target)
        assert not again["published"]
    done = envpack("deploy", published["bundle"], tmp_path / "x")
    assert done.code == 0, done.err
    assert whole_version(tmp_path / "x") == "1"
    assert not github.leaked


def test_a_bundle_in_parts_is_deployed_by_its_address(github: GitHub, tmp_path: Path) -> None:
    release = large(tmp_path)
    publisher = place(github, limit=LIMIT)
    publish_files(publisher, release)
    done = envpack("verify", publisher.address(NAME))
    assert done.code == 0, done.err
    done = envpack("deploy", publisher.address(NAME), tmp_path / "x")
    assert done.code == 0, done.err
    assert (tmp_path / "x/lib/c").stat().st_size == 1600 * 64


def test_a_missing_token_is_told_before_a_bundle_is_read_or_built(tmp_path: Path) -> None:
    for words in (("publish", tmp_path / NAME, TARGET), ("release", tmp_path / "none.yml", "--to", TARGET)):
        done = envpack(*words)
        assert done.code == 2 and "needs a token" in done.err

"""A release on GitHub while files are uploaded to it: whatever fails is repeated, continued or taken back."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from envpack.publish.base import Upload
from envpack.publish.git_hosts.api import RefusedError, UnansweredError
from envpack.publish.git_hosts.pieces import Piece, joined
from envpack.publish.git_hosts.repository import Asset, HostedRelease, Repository
from envpack.publish.git_hosts.uploads import Uploads
from envpack.publish.release import CHECKSUM
from envpack.runtime.errors import DestinationError, EnvpackError
from envpack.runtime.report import escape
from envpack.runtime.transport.documents import PARTS
from envpack.runtime.transport.http.pool import RETRIES, backoff_seconds

MOST_ASSETS = 1000
"""Files of a release at most (https://docs.github.com/repositories/releasing-projects-on-github/about-releases)."""

PATIENCE = 10.0
"""Seconds after which an upload that another process began is taken for an interrupted one."""
OTHERS_PATIENCE = 600.0
"""Seconds without any change after which another bundle of the same draft is taken for an interrupted one."""
POLL = 2.0


class Draft(Uploads[Asset]):
    """A release that files are uploaded to."""

    server = "GitHub"

    def __init__(
        self, repository: Repository, tag: str, bundles: Collection[str], *, limit: int, resume: bool
    ) -> None:
        """Take the tag, the names of all bundles for it, and the size of a file in bytes at most."""
        super().__init__(limit=limit, resume=resume)
        self._repository, self._tag, self._bundles = repository, tag, bundles
        self._release: HostedRelease | None = None
        self._created: int | None = None
        self._before: set[int] = set()
        self._assets: dict[str, Asset] = {}
        self._done, self._bundle = False, ""

    def open(
        self, found: Callable[[], Sequence[HostedRelease]], commit: str, claim: Upload, names: Sequence[str]
    ) -> None:
        """Find or create the release, and reserve the names.

        Args:
            found: Returns the releases with the tag: the published one, or all drafts.
            commit: The commit of a new tag; "" for the last one of the default branch.
            claim: The file that reserves the names.
            names: The names of the other files.

        Raises:
            FileExistsError: A name is taken.
            DestinationError: Nothing can be added.
        """
        self._bundle = claim.name.removesuffix(CHECKSUM)
        self._release = self._find(found, commit)
        self._look()
        self._before = {asset.id for asset in self._assets.values()}
        if not self._resume:
            taken = {claim.name, *names, self._bundle + PARTS} & self._sizes().keys()
            if taken:
                raise FileExistsError(min(taken))
        if self._release.immutable and not self._release.draft:
            raise self._immutable()
        self._check_count(len(names) + 1)
        self.put(claim)

    def commit(self, bundle: Upload) -> None:
        super().commit(bundle)
        self._publish()

    def take_back(self) -> None:
        """Delete what was uploaded, and the draft if it was created here, as far as that is possible."""
        with suppress(EnvpackError, FileNotFoundError):
            release = self._release and self._repository.release(self._release.id)
            if self._done or release is None:
                return
            self._look()
            if not release.draft and self._bundle in joined(self._sizes())[0]:
                return
            claim = self._bundle + CHECKSUM
            for asset in sorted(self._assets.values(), key=lambda asset: asset.name == claim):  # that one last
                unknown = asset.name in self._unanswered and asset.id not in self._before
                if asset.id in self._made or unknown:
                    self._delete(asset)
            if release.draft and release.id == self._created and not self._assets:
                self._repository.delete_release(release.id)

    def _find(self, found: Callable[[], Sequence[HostedRelease]], commit: str) -> HostedRelease:
        """Return the published release, or the oldest draft: of several processes, all choose the same."""
        own: HostedRelease | None = None
        for failed in range(1, RETRIES + 1):
            releases = {release.id: release for release in found()}
            if own is not None:
                releases.setdefault(own.id, own)  # lists may be some moments old
            if releases:
                chosen = min(releases.values(), key=lambda release: (release.draft, release.id))
                if own is not None and own.id != chosen.id:
                    self._repository.delete_release(own.id)
                    self._created = None
                return chosen
            try:
                self._release = own = self._repository.create_draft(self._tag, commit)
                self._created = own.id
            except UnansweredError:
                if failed == RETRIES:
                    raise
                time.sleep(backoff_seconds(failed + 1))
            except RefusedError as problem:
                raise self._explained(problem) from None
        raise DestinationError(f"can't create a release in {self._repository.name}", hint="Run the command again.")

    @property
    def _hosted(self) -> HostedRelease:
        assert self._release is not None
        return self._release

    def _look(self) -> None:
        self._assets = self._repository.assets(self._hosted)

    def _sizes(self) -> Mapping[str, int]:
        return {asset.name: asset.size for asset in self._assets.values() if asset.uploaded}

    def _delete(self, asset: Asset) -> None:
        try:
            self._repository.delete(asset)
        except RefusedError as problem:
            if problem.status != 404:
                raise self._explained(problem) from None
        self._assets.pop(asset.name, None)

    def _has(self, piece: Piece) -> bool:
        asset = self._settled(piece.name)
        if asset is None:
            return False
        if asset.uploaded and self._is(asset, piece):
            return True
        if asset.uploaded and not self._resume:
            raise FileExistsError(piece.name)
        self._delete(asset)
        return False

    def _upload(self, piece: Piece) -> Asset:
        made = self._repository.upload(self._hosted, piece)
        self._assets[made.name] = made
        if made.name != piece.name:
            self._delete(made)
            raise DestinationError(
                f"GitHub changes the name {piece.name} to {escape(made.name)}",
                hint="Use only letters, digits and . _ - in the name and version of the environment.",
            )
        return made

    def _download(self, file: Asset) -> bytes:
        return self._repository.download(file)

    def _is_taken(self, refusal: RefusedError) -> bool:
        return refusal.status == 422 and "already_exists" in refusal.said

    def _is(self, file: Asset, piece: Piece) -> bool:
        return file.uploaded and super()._is(file, piece)

    def _settled(self, name: str) -> Asset | None:
        """Return an asset; one that another process uploads, when that is done or seems to hang."""
        end = time.monotonic() + PATIENCE
        while True:
            asset = self._assets.get(name)
            if asset is None or asset.uploaded or name in self._unanswered or time.monotonic() > end:
                return asset
            if self._resume and asset.id in self._before:
                return asset
            time.sleep(POLL)
            self._look()

    def _publish(self) -> None:
        """Publish the draft when all of its bundles are there."""
        end, seen = time.monotonic() + OTHERS_PATIENCE, dict(self._assets)
        while True:
            if not self._hosted.draft:
                break
            sizes = self._sizes()
            there, _ = joined(sizes)
            claimed = {name.removesuffix(CHECKSUM) for name in self._assets if name.endswith(CHECKSUM)}
            if not set(self._bundles) <= there.keys():
                break  # another one of this run follows, and publishes all
            unfinished = sorted(claimed - there.keys())
            if not unfinished:
                try:
                    self._repository.publish(self._hosted.id)
                except RefusedError as problem:
                    raise self._explained(problem) from None
                break
            if time.monotonic() > end:
                self._done = True
                raise DestinationError(
                    f"{self._bundle} is uploaded, but the draft of {self._tag} is not published: the upload of "
                    f"{unfinished[0]} is not finished",
                    hint=f"Publish that one again, or delete {unfinished[0]}{CHECKSUM} from the draft. Then run "
                    "this command again.",
                )
            time.sleep(POLL)
            self._release = self._repository.release(self._hosted.id) or self._hosted
            self._look()
            if self._assets != seen:
                end, seen = time.monotonic() + OTHERS_PATIENCE, dict(self._assets)
        self._done = True

    def _check_room(self, pieces: list[Piece]) -> None:
        self._check_count(sum(piece.name not in self._assets for piece in pieces))

    def _check_count(self, more: int) -> None:
        if len(self._assets) + more > MOST_ASSETS:
            raise DestinationError(
                f"the release {self._tag} has {len(self._assets)} files, and can have {MOST_ASSETS:,}",
                hint="Use a new tag.",
            )

    def _explained(self, problem: RefusedError) -> EnvpackError:
        return self._immutable() if "immutable" in problem.said.lower() else problem

    def _immutable(self) -> DestinationError:
        return DestinationError(
            f"the release {self._tag} of {self._repository.name} is published and immutable: nothing can be added",
            hint=f"Use a new tag, or none: github:{self._repository.name} makes a release for each bundle.",
        )

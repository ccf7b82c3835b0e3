"""A release on GitHub while files are uploaded to it: whatever fails is repeated, continued or taken back."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from envpack.publish.base import Upload
from envpack.publish.git_hosts.api import RefusedError, UnansweredError
from envpack.publish.git_hosts.pieces import Piece, joined, pieces_of, whole
from envpack.publish.git_hosts.repository import Asset, HostedRelease, Repository
from envpack.publish.release import CHECKSUM
from envpack.runtime.errors import DestinationError, EnvpackError
from envpack.runtime.report import escape
from envpack.runtime.transport.documents import PARTS
from envpack.runtime.transport.http.pool import BACKOFF_SECONDS, RETRIES

MOST_ASSETS = 1000
"""Files of a release at most (https://docs.github.com/repositories/releasing-projects-on-github/about-releases)."""

PATIENCE = 10.0
"""Seconds after which an upload that another process began is taken for an interrupted one."""
OTHERS_PATIENCE = 600.0
"""Seconds without any change after which another bundle of the same draft is taken for an interrupted one."""
POLL = 2.0
_MAX_COMPARED = 64 << 20
"""Bytes of the largest file that is downloaded to compare it, from a server that states no digests."""


class Draft:
    """A release that files are uploaded to, as `envpack.publish.base.Release` says.

    Attributes:
        in_parts: Whether the bundle was too large for one file.
    """

    def __init__(
        self, repository: Repository, tag: str, bundles: Collection[str], *, limit: int, resume: bool
    ) -> None:
        """Take the tag, the names of all bundles for it, and the size of a file in bytes at most."""
        self._repository, self._tag, self._bundles = repository, tag, bundles
        self._limit, self._resume = limit, resume
        self._release: HostedRelease | None = None
        self._created: int | None = None
        self._before: set[int] = set()
        self._assets: dict[str, Asset] = {}
        self._pieces: list[Piece] = []
        self._made: set[int] = set()
        self._unanswered: set[str] = set()
        self._done, self._bundle = False, ""
        self.in_parts = False

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

    def put(self, file: Upload) -> None:
        piece = whole(file)
        self._ensure(piece)
        self._pieces.append(piece)

    def commit(self, bundle: Upload) -> None:
        pieces = pieces_of(bundle, self._limit)
        self.in_parts = len(pieces) > 1
        self._check_count(sum(piece.name not in self._assets for piece in pieces))
        for piece in pieces:
            self._ensure(piece)
        self._look()
        for piece in [*self._pieces, *pieces]:  # another process may have taken its files back meanwhile
            self._ensure(piece)
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
                time.sleep(BACKOFF_SECONDS * 2**failed)
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

    def _ensure(self, piece: Piece) -> None:
        """Upload a file, unless it is there; also if the response to an upload is lost."""
        problem: DestinationError | None = None
        for failed in range(RETRIES + 1):
            if failed:
                time.sleep(BACKOFF_SECONDS * 2 ** (failed - 1))
                self._look()
            asset = self._settled(piece.name)
            if asset is not None and asset.uploaded and self._is(asset, piece):
                piece.skip()
                return
            if asset is not None and asset.uploaded and not self._resume:
                raise FileExistsError(piece.name)
            if asset is not None:
                self._delete(asset)
            self._unanswered.add(piece.name)
            try:
                made = self._repository.upload(self._hosted, piece)
            except UnansweredError as unanswered:
                problem = unanswered
                continue
            except RefusedError as refused:
                self._unanswered.discard(piece.name)
                if refused.status != 422 or "already_exists" not in refused.said:
                    raise self._explained(refused) from None
                problem = refused
                continue
            self._unanswered.discard(piece.name)
            self._made.add(made.id)
            self._assets[made.name] = made
            if made.name == piece.name and made.uploaded and self._is(made, piece):
                return
            self._delete(made)
            if made.name != piece.name:
                raise DestinationError(
                    f"GitHub changes the name {piece.name} to {escape(made.name)}",
                    hint="Use only letters, digits and . _ - in the name and version of the environment.",
                )
            problem = DestinationError(f"{piece.name} was damaged on its way to GitHub")
        assert problem is not None
        raise problem

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

    def _is(self, asset: Asset, piece: Piece) -> bool:
        if asset.size != piece.size:
            return False
        if asset.sha256 or piece.size > _MAX_COMPARED:
            return asset.sha256 in ("", piece.sha256)
        try:
            return hashlib.sha256(self._repository.download(asset)).hexdigest() == piece.sha256
        except FileNotFoundError:
            return False

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

"""How bundles are sent to a registry, from environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from envpack.runtime.errors import UsageError

CHUNK, SOURCES = "ENVPACK_OCI_CHUNK", "ENVPACK_OCI_MOUNT_FROM"

_SIZE = re.compile(r"([1-9][0-9]{0,9}) ?(|KiB|MiB|GiB)")
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class PushSettings:
    """How blobs are sent.

    Attributes:
        chunk: Bytes of one request; 0 for one request for each blob. Proxies limit requests (Cloudflare: 100 MB),
            and some registries take chunks badly or not at all (ECR, GHCR), so it is 0 if it is not stated.
        sources: Other repositories of the registry that may have blobs, which are mounted then.
    """

    chunk: int = 0
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> PushSettings:
        """Return the settings that environment variables state.

        Raises:
            UsageError: One of them is not valid.
        """
        stated = environ.get(CHUNK, "").strip()
        size = _SIZE.fullmatch(stated)
        if stated and size is None:
            raise UsageError(f"{CHUNK}: not a size", hint="Write a number of bytes, or one such as 50MiB.")
        sources = tuple(each.strip() for each in environ.get(SOURCES, "").split(",") if each.strip())
        return cls(int(size[1]) * _UNITS[size[2]] if size else 0, sources)

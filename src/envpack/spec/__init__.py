"""The spec: an unchanged ``environment.yml``, plus one optional section ``envpack:``."""

from envpack.runtime.host.minimum import Minimum
from envpack.spec.model import DEFAULT_CHANNELS, DEFAULT_VERSION, PLATFORMS, PRUNE_PROFILES, EnvSpec
from envpack.spec.parse import parse_spec
from envpack.spec.requires import Requires

__all__ = [
    "DEFAULT_CHANNELS",
    "DEFAULT_VERSION",
    "PLATFORMS",
    "PRUNE_PROFILES",
    "EnvSpec",
    "Minimum",
    "Requires",
    "parse_spec",
]

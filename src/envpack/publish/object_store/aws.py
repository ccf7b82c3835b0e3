"""Settings of S3 from the environment variables and files that the AWS command line has, too.

The names are those of https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from envpack.runtime.errors import UsageError
from envpack.runtime.fs.io import read_file

_MAX_FILE = 1 << 20
_ENDPOINT = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")
_KEYS = ("access_key_id", "secret_access_key", "session_token")
_PROVIDERS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Variables that lead to keys, which obstore fetches itself: EKS and GitHub's OIDC, ECS, EKS Pod Identity."""
_OTHER_KEYS = ("sso_session", "sso_start_url", "role_arn", "credential_process", "login_session")
"""Settings of a profile by which only AWS's own programs get keys."""


def aws_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a store as obstore names them: endpoint, region and static keys, those that are set.

    Environment variables come before the profile: that of AWS_PROFILE, or ``default``.

    Raises:
        UsageError: There is no such profile, its files can't be read, or its keys are not static.
    """
    profile = _profile(environ)
    found = {
        "endpoint": _first(environ, _ENDPOINT) or profile.get("endpoint_url", ""),
        "region": _first(environ, _REGION) or profile.get("region", ""),
    }
    if environ.get("AWS_ACCESS_KEY_ID"):
        found |= {key: environ.get(f"AWS_{key.upper()}", "") for key in _KEYS}
    elif not _first(environ, _PROVIDERS):
        found |= {key: profile.get(f"aws_{key}", "") for key in _KEYS}
        other = next((key for key in _OTHER_KEYS if key in profile), "")
        if other and not found["access_key_id"]:
            raise UsageError(
                f"the AWS profile {_name(environ)!r} has no keys, but {other}",
                hint='Set its keys first: eval "$(aws configure export-credentials --format env)"',
            )
    return {key: value for key, value in found.items() if value}


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


def _name(environ: Mapping[str, str]) -> str:
    return _first(environ, ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")) or "default"


def _profile(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the profile; those of the credentials file win."""
    name = _name(environ)
    config = _section(environ, "AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}")
    credentials = _section(environ, "AWS_SHARED_CREDENTIALS_FILE", "credentials", name)
    if config is None and credentials is None and name != "default":
        raise UsageError(
            f"there is no AWS profile {name!r}",
            hint="Set AWS_PROFILE to one that 'aws configure list-profiles' lists.",
        )
    return {**(config or {}), **(credentials or {})}


def _section(environ: Mapping[str, str], variable: str, file: str, section: str) -> dict[str, str] | None:
    path = Path(environ.get(variable) or f"{environ.get('HOME', '')}/.aws/{file}")
    parser = configparser.RawConfigParser(strict=False, default_section="")
    try:
        parser.read_string(read_file(path, _MAX_FILE).decode())
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise UsageError(f"can't read {path}: {problem.strerror}") from None
    except (configparser.Error, ValueError):  # its text may hold a key
        raise UsageError(f"{path} is not a valid file of AWS settings") from None
    return dict(parser.items(section)) if parser.has_section(section) else None

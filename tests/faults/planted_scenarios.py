"""What `faults.planted` tries: commands that write to a folder, or read from it, which other users may write to.

Every command of the command line is in one of them at least, and every command of the runtime in bundles that
writes; ``tests/component/security/test_planted.py`` compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scenario:
    """One command, and what is there before.

    ``setup``: commands before the planting; ``command``: the one that is tried; ``variables``: for all of them;
    ``also``: names to plant, besides those that it creates: those that it would read or remove; ``program``: what
    runs ``command``, "envpack", "runtime" (that in bundles) or "shell"; ``code``: its exit code when nothing is
    planted.
    """

    name: str
    command: list[str]
    setup: tuple[list[str], ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    program: str = "envpack"
    code: int = 0


ALLOW = ["--allow", "parent-owner"]
"""Else root would be refused, and nothing tried."""
DEPLOY = ["deploy", "--no-check", "--jobs", "1", *ALLOW]
FIRST = [*DEPLOY, "{input}/1.tar.gz", "{shared}/x"]
CHANNEL = ["-c", "{input}/channel"]
SECOND = [*DEPLOY, "{input}/2.tar.gz", "{shared}/x"]
STORE = [*DEPLOY, "{input}/1.tar.gz", "{home}/x", "--store", "{shared}/store"]
RECORDS = ("x/.envpack/deployment.json", "x/.envpack/manifest.json", "x/.envpack/paths.json")
PUBLISH = ["publish", "{input}/1.tar.gz", "{shared}/p"]
METRICS = ["metrics", "{shared}/x", "-o", "{shared}/o.prom"]
READ_BY_METRICS = ("x", *RECORDS, "x/.envpack/check", "x/.envpack/runs", "x/.envpack/runs/serve.json")
RUN = ["run", "{shared}/x", "serve"]
RUNS = ("x/.envpack/runs", "x/.envpack/runs/serve.json", "logs")
SCENARIOS = [
    Scenario("pack", ["pack", "-p", "{input}/env", "-o", "{shared}/o.tar.gz", "-f"]),
    Scenario("pack, zip", ["pack", "-p", "{input}/env", "-o", "{shared}/o.zip", "-f"]),
    Scenario("pack, folder", ["pack", "-p", "{input}/env", "-o", "{shared}/o.no-archive", "-f"]),
    Scenario(
        "pack, editable wheels",
        ["pack", "-p", "{input}/editable", "-o", "{shared}/o.tar.gz", "-f", "--editable", "wheel"],
    ),
    Scenario(
        "pack, cache",
        ["pack", "-p", "{input}/env", "-o", "{home}/o.tar.gz"],
        (),
        {"ENVPACK_CACHE": "{shared}/cache"},
    ),
    Scenario(
        "pack, cache again",
        ["pack", "-p", "{input}/env", "-o", "{home}/p.tar.gz"],
        (["pack", "-p", "{input}/env", "-o", "{home}/o.tar.gz"],),
        {"ENVPACK_CACHE": "{shared}/cache"},
    ),
    Scenario(
        "cache clear",
        ["cache", "clear"],
        (),
        {"ENVPACK_CACHE": "{shared}/cache"},
        ("cache", "cache/1", "cache/1/bundles", "cache/1/bundles/x.json", "cache/1/runtime", "cache/1/runtime/x"),
    ),
    Scenario("cache", ["cache"], (), {"ENVPACK_CACHE": "{shared}/cache"}, ("cache", "cache/1", "cache/1/bundles")),
    Scenario("list, scan", ["list", "--scan", "{shared}"], (), {}, ("x", *RECORDS)),
    Scenario("list", ["list"], (), {"ENVPACK_STATE": "{shared}/state"}, ("state", "state/x", "state/" + "a" * 64)),
    Scenario("convert", ["convert", "{input}/o.zip", "{shared}/o.tar.zst", "-f"]),
    Scenario("convert, zip", ["convert", "{input}/1.tar.gz", "{shared}/o.zip", "-f"]),
    Scenario("sign", ["sign", "{shared}/b.tar.gz", "--key", "{input}/k.key"], (["copy"],)),
    Scenario("new key", ["sign", "--new-key", "{shared}/ci", "--no-password"]),
    Scenario("sbom", ["sbom", "{input}/1.tar.gz", "-o", "{shared}/demo.cdx.json"]),
    Scenario("lock", ["lock", "{input}/spec.yml", "-o", "{shared}/o.lock", *CHANNEL]),
    Scenario("build", ["build", "{input}/spec.yml", "-o", "{shared}/o.tar.gz", *CHANNEL]),
    Scenario(
        "build, work",
        ["build", "{input}/spec.yml", "-o", "{home}/o.tar.gz", *CHANNEL],
        (),
        {"ENVPACK_WORK": "{shared}/work"},
    ),
    Scenario("release", ["release", "{input}/spec.yml", "-o", "{shared}/dist", *CHANNEL]),
    Scenario("publish", PUBLISH),
    Scenario("publish again", PUBLISH, (PUBLISH,)),
    Scenario("releases", ["releases", "{shared}/p"], (PUBLISH,)),
    Scenario("deploy", FIRST, also=("x/.envpack/deployment.json", "x/.envpack/manifest.json")),
    Scenario("deploy, archive", [*DEPLOY, "{input}/o.zip", "{shared}/x"]),
    Scenario(
        "deploy, registry", [*DEPLOY, "{input}/1.tar.gz", "{home}/x"], (), {"ENVPACK_STATE": "{shared}/state"}
    ),
    Scenario("deploy, store", [*DEPLOY, "{input}/1.tar.gz", "{home}/x", "--store", "{shared}/store"]),
    Scenario("deploy, store again", [*STORE[:-3], "{home}/y", *STORE[-2:]], (STORE,)),
    Scenario("upgrade", SECOND, (FIRST,)),
    Scenario("rollback", ["rollback", *ALLOW, "{shared}/x"], (FIRST, SECOND)),
    Scenario("repair", ["repair", *ALLOW, "{shared}/x", "{input}/1.tar.gz"], (FIRST,)),
    Scenario("move", ["move", *ALLOW, "{shared}/x", "{shared}/y"], (FIRST,)),
    Scenario("remove", ["remove", *ALLOW, "{shared}/x"], (FIRST,)),
    Scenario("remove, two generations", ["remove", *ALLOW, "{shared}/x"], (FIRST, SECOND)),
    Scenario("gc", ["gc", *ALLOW, "--store", "{shared}/store"], (STORE, ["remove", *ALLOW, "{home}/x"])),
    Scenario("size, page", ["size", "--html", "{shared}/o.html", "{input}/1.tar.gz"]),
    Scenario(
        "activate", ["bash", "-c", ". {shared}/x/bin/activate && command -v tool"], (FIRST,), {}, (), "shell"
    ),
    Scenario(
        "activate, moved",
        ["bash", "-c", "mv -T {shared}/x {shared}/y && . {shared}/y/bin/activate && command -v tool"],
        (FIRST,),
        {},
        (),
        "shell",
    ),
    Scenario("runtime, deploy", FIRST, program="runtime"),
    Scenario("runtime, upgrade", SECOND, (FIRST,), program="runtime"),
    Scenario("runtime, rollback", ["rollback", *ALLOW, "{shared}/x"], (FIRST, SECOND), program="runtime"),
    Scenario("runtime, move", ["move", *ALLOW, "{shared}/x", "{shared}/y"], (FIRST,), program="runtime"),
    Scenario("runtime, remove", ["remove", *ALLOW, "{shared}/x"], (FIRST,), program="runtime"),
    Scenario("runtime, unpack", ["unpack", "{shared}/y"], (FIRST, ["mv", "x", "y"]), program="runtime"),
    Scenario(
        "audit, sarif", ["audit", "{input}/1.tar.gz", "--db", "{input}/x.json", "--sarif", "{shared}/a.sarif"]
    ),
    Scenario("metrics", METRICS, also=READ_BY_METRICS),
    Scenario("metrics, registry", ["metrics"], (), {"ENVPACK_STATE": "{shared}/state"}, ("state", "state/x")),
    Scenario("runtime, metrics", METRICS, also=READ_BY_METRICS, program="runtime"),
    Scenario("run", [*RUN, "--log", "{shared}/logs"], (FIRST,), also=RUNS),
    Scenario("runtime, run", [*RUN, "--log", "{shared}/logs"], (FIRST,), also=RUNS, program="runtime"),
    Scenario("shell", ["shell", "{shared}/x"], (FIRST,)),
    Scenario("runtime, shell", ["shell", "{shared}/x"], (FIRST,), program="runtime"),
    # these create nothing; what they read is planted
    Scenario("unit", ["unit", "{shared}/x", "serve"], code=78, also=("x", *RECORDS, "x/bin/serve-run")),
    Scenario("verify", ["verify", "{shared}/x"], code=6, also=("x", *RECORDS)),
    Scenario(
        "verify, signed",
        ["verify", "{shared}/b.tar.gz", "--key", "{shared}/k.pub"],
        (["copy"],),
        code=2,
        also=("k.pub", "b.tar.gz.minisig"),
    ),
    Scenario("inspect", ["inspect", "{shared}/b.tar.gz"], code=6, also=("b.tar.gz",)),
    Scenario("audit", ["audit", "{input}/1.tar.gz", "--db", "{shared}/db"], code=6, also=("db", "db/x.json")),
    Scenario("audit, deployment", ["audit", "{shared}/x", "--db", "{shared}/db"], code=6, also=("x", *RECORDS)),
    Scenario("diff", ["diff", "{input}/1.tar.gz", "{shared}/b.tar.gz"], code=6, also=("b.tar.gz",)),
    Scenario("diff, deployment", ["diff", "{shared}/x", "{input}/1.tar.gz"], code=6, also=("x", *RECORDS)),
    Scenario("sbom, deployment", ["sbom", "{shared}/x"], code=6, also=("x", *RECORDS)),
    Scenario("size", ["size", "{shared}/b.tar.gz"], code=6, also=("b.tar.gz",)),
    Scenario("size, deployment", ["size", "{shared}/x"], code=6, also=("x", *RECORDS)),
    Scenario("check", ["check", "{shared}/x"], code=6, also=("x", *RECORDS)),
    Scenario(
        "check, host", ["check", "{input}/1.tar.gz", "--host", "{shared}/host.json"], code=6, also=("host.json",)
    ),
    Scenario("history", ["history", "{shared}/x"], code=10, also=("x", *RECORDS)),
    Scenario("doctor", ["doctor"], variables={"XDG_CACHE_HOME": "{shared}/cache", "PWD": "{shared}"}),
    Scenario(
        "schema", ["schema", "deploy"], variables={"XDG_CONFIG_HOME": "{shared}"}, also=("envpack/config.toml",)
    ),
]

"""``envpack deploy``: a bundle becomes a running environment."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envpack.cli.approval import approval, refuse_archive
from envpack.cli.console import Console, Result
from envpack.cli.options import (
    Allow,
    BundleOrArchive,
    Gpu,
    Jobs,
    Keep,
    Store,
    Wait,
    argument,
    choose_store,
    option,
)
from envpack.cli.output import show_origin
from envpack.cli.text import escape, human_time, plural
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.runtime.commands.deploy import Deployment


def deploy(
    console: Console,
    bundle: BundleOrArchive,
    destination: Annotated[
        Path,
        argument(metavar="DEST", help="A folder that is not there, empty, or a deployment."),
    ],
    no_test: Annotated[bool, option("--no-test", help="Don't run the bundle's test commands.")] = False,
    gpu: Gpu = None,
    allow: Allow = None,
    no_check: Annotated[bool, option("--no-check", help="Don't check whether this host can run it.")] = False,
    keep: Keep = None,
    wait: Wait = False,
    store: Store = None,
    jobs: Jobs = None,
) -> Result:
    """Check this host, verify a bundle, unpack it to DEST, run its tests.

    Nothing is unpacked on a host that can't run it, see 'envpack check'. DEST appears whole, in one step, or not
    at all. A deployment that is there already is switched for the new one at once, and kept: 'envpack rollback'
    switches back. When one of the bundle's test commands fails, or anything else, what was there before is there
    again. --gpu and --allow are recorded, and hold for every activation.

    With a store, packages that a deployment on this host has brought there are not read from the bundle again, and
    their files are shared. 'envpack gc' removes from it what nothing uses.

    Where /etc/envpack/policy.toml demands signatures, a bundle needs BUNDLE.minisig beside it, of one of its keys.

    From a server (http, https) only the parts that are needed are read, for an upgrade the packages that are not
    the same at DEST, and a lost connection is resumed. A pipe is unpacked as it comes.

    An archive made by conda-pack is accepted. Information that it does not contain, and mistakes in it that were
    corrected, are reported.

    \b
    Examples:
      envpack deploy dist/demo-1.0-20251219-linux-64.tar.gz /opt/envs/demo
      source /opt/envs/demo/bin/activate
      envpack deploy demo-1.1-20260105-linux-64.tar.gz /opt/envs/demo --keep 2
      envpack deploy demo.tar.gz /opt/envs/demo --gpu optional --allow memory
      envpack deploy demo.tar.gz /opt/envs/demo --store /opt/envs/.store
      envpack deploy https://example.org/demo.tar.gz /opt/envs/demo
      ssh build cat demo.tar.gz | envpack deploy - /opt/envs/demo
      envpack deploy made-by-conda-pack.zip /opt/envs/demo
    """
    from envpack.bundle.codecs import FAST
    from envpack.config import load_config
    from envpack.interop.detect import is_archive
    from envpack.runtime.commands.check import parse_policy
    from envpack.runtime.commands.deploy import KEEP, DeployOptions
    from envpack.runtime.commands.deploy import deploy as deploy_bundle
    from envpack.runtime.transport.open import local_path

    config = load_config()
    source = local_path(bundle)
    keep_count = keep if keep is not None else config.keep
    options = DeployOptions(
        policy=parse_policy(gpu or "required", allow or (), not no_check),
        run_tests=not no_test,
        keep=keep_count if keep_count is not None else KEEP,
        wait=wait,
        jobs=jobs or config.jobs,
        store=choose_store(store, console.environ, config),
    )
    approve = approval(console)
    if isinstance(source, Path) and is_archive(source):
        refuse_archive(console, source)
        from envpack.interop.deploy import deploy_archive

        if store is not None:
            console.reporter.warn(
                "an archive shares nothing with the store: 'envpack convert' makes a bundle of it"
            )
        done = deploy_archive(source, destination, options, reporter=console.reporter)
    else:
        done = deploy_bundle(
            source, destination, options, reporter=console.reporter, decoders=FAST, approve=approve
        )
    typed = _as_typed(destination, done)
    return Result("deploy", done.as_dict(), lambda console: _show(console, done, typed))


def _as_typed(destination: Path, done: Deployment) -> str:
    """Return the destination as typed, unless the shell did not expand a ``~`` in it."""
    return str(destination) if not str(destination).startswith("~") else done.destination


def _show(console: Console, done: Deployment, destination: str) -> None:
    out = console.out
    out.write(f"{out.style(escape(f'{done.name} {done.version}'), '1')} is at {escape(done.destination)}")
    out.write(f"  {plural(done.files, 'file')}, {human_size(done.size)}, {human_time(done.seconds)}")
    if done.replaced is not None:
        out.write(
            f"  generation {done.generation}; 'envpack rollback' switches back to generation {done.replaced}"
        )
    if done.read < done.stored or done.store:
        rest = f"in the store {escape(done.store)}" if done.store else "in the deployment before it"
        out.write(f"  {human_size(done.read)} of {human_size(done.stored)} read, the rest was {rest}")
    show_origin(out, done.made_by, done.lacks, done.repairs, verbose=console.verbose)
    out.write()
    out.write("activate it with:")
    out.write(out.style(f"  source {escape(shlex.quote(destination))}/bin/activate", "36"))
    if done.commands:
        out.write("its commands:")
        out.pairs(done.commands.items(), unwrapped=True)

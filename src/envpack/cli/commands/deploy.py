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
    Mirror,
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
        argument(metavar="DEST", help="A new path, an empty directory, or a deployment."),
    ],
    no_test: Annotated[bool, option("--no-test", help="Don't run the bundle's tests.")] = False,
    gpu: Gpu = None,
    allow: Allow = None,
    no_check: Annotated[bool, option("--no-check", help="Don't check the requirements of the bundle.")] = False,
    keep: Keep = None,
    wait: Wait = False,
    store: Store = None,
    mirror: Mirror = None,
    jobs: Jobs = None,
) -> Result:
    """Unpack a bundle at DEST, or upgrade the deployment there.

    The host is checked first, as by 'envpack check'. If it can't run the environment, nothing is unpacked. DEST
    is created in one atomic step. An existing deployment at DEST is replaced in the same way, and becomes the
    previous generation: 'envpack rollback' switches back to it. At the end, the bundle's tests run. If one fails,
    and on any other error, DEST is as it was before. --gpu and --allow are recorded, and also apply to every
    activation.

    With a store, packages that are already in it are not read from the bundle, and deployments share their files.
    'envpack gc' removes packages that no deployment uses any more.

    If /etc/envpack/policy.toml requires signatures, BUNDLE.minisig must be next to the bundle, with a signature by
    one of the keys that the policy lists.

    From a server (http, https), only the parts that are needed are read: an upgrade reads the packages that differ
    from those at DEST. A lost connection is resumed. Data from a pipe is unpacked while it is read.

    --mirror names a copy that is nearer, or a directory of bundles: a path, or a URL that ends with '/'. A mirror
    needs no trust, because every package is verified. If it fails, the rest is read from BUNDLE.

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
    from envpack.runtime.transport.open import located

    config = load_config()
    source = located(bundle)
    keep_count = keep if keep is not None else config.keep
    options = DeployOptions(
        policy=parse_policy(gpu or "required", allow or (), not no_check),
        run_tests=not no_test,
        keep=keep_count if keep_count is not None else KEEP,
        wait=wait,
        jobs=jobs or config.jobs,
        store=choose_store(store, console.environ, config),
        mirrors=mirror or (),
    )
    approve = approval(console, bundle, destination)
    if isinstance(source, Path) and is_archive(source):
        refuse_archive(console, source)
        from envpack.interop.deploy import deploy_archive

        if store is not None:
            console.reporter.warn("archives don't use the store; 'envpack convert' converts this one to a bundle")
        done = deploy_archive(source, destination, options, reporter=console.reporter)
    else:
        done = deploy_bundle(
            source, destination, options, reporter=console.reporter, decoders=FAST, approve=approve
        )
    return Result("deploy", done.as_dict(), lambda console: _show(console, done))


def _show(console: Console, done: Deployment) -> None:
    from envpack.runtime.activation import activation_command

    if console.quiet:
        return
    out = console.out
    out.write(f"{out.style(escape(f'{done.name} {done.version}'), '1')} is at {escape(done.destination)}")
    out.write(f"  {plural(done.files, 'file')}, {human_size(done.size)}, {human_time(done.seconds)}")
    if done.replaced is not None:
        back = f"'envpack rollback' switches back to generation {done.replaced}"
        gone = f"generation {done.replaced} was removed, so there is no rollback to it"
        out.write(f"  generation {done.generation}; {back if done.replaced in done.kept else gone}")
    if done.read < done.stored or done.store:
        rest = f"in the store {escape(done.store)}" if done.store else "copied from the previous generation"
        out.write(f"  {human_size(done.read)} of {human_size(done.stored)} read, the rest was {rest}")
    show_origin(out, done.made_by, done.lacks, done.repairs, verbose=console.verbose)
    out.write()
    out.write("activate it with:")
    out.write(out.style(f"  {escape(activation_command(done.destination, console.environ))}", "36"))
    if done.commands:
        out.write(f"its commands, for 'envpack run {escape(shlex.quote(done.destination))} NAME':")
        out.pairs(done.commands.items(), unwrapped=True)

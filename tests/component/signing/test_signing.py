"""Keys and signatures are minisign's (``data/minisign`` is of the real one); a policy lets nothing else pass."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from envpack.bundle.codecs import FAST
from envpack.cli.app import main
from envpack.cli.approval import approval
from envpack.cli.console import Console
from envpack.cli.terminal import Stream
from envpack.config import Config, load_config
from envpack.runtime.__main__ import main as runtime
from envpack.runtime.errors import DestinationError, IntegrityError, UsageError
from envpack.runtime.reader.bundle import open_bundle
from envpack.signing.bundle import Signed, check_manifest, sign_bundle, signature_path
from envpack.signing.keys import (
    PublicKey,
    SecretKey,
    new_key,
    public_key,
    public_key_file,
    public_key_of,
    scrypt_parameters,
    secret_key_file,
    secret_key_of,
    write_new,
)
from envpack.signing.policy import signature_policy
from envpack.signing.signature import check_signature, read_signature, sign
from support.bundle_factory import make_bundle, text
from support.conda_pack_archives import tar
from support.trees import let_write

DATA = Path(__file__).parents[2] / "data/minisign"
SIGNED = (DATA / "data.txt").read_bytes()


def no_password() -> str:
    raise AssertionError("a password is asked for")


@pytest.fixture
def key() -> SecretKey:
    return new_key()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "b.tar.gz", {"environment": [text("bin/tool", b"@\n", 0o755)]})
    return tmp_path / "b.tar.gz"


# --- minisign's own ---


@pytest.mark.parametrize(("name", "public"), [("data.txt.minisig", "plain.pub"), ("locked.minisig", "locked.pub")])
def test_a_signature_of_minisign_s_holds(name: str, public: str) -> None:
    signature = read_signature(DATA / name)
    signer = public_key_of(str(DATA / public))
    assert check_signature(SIGNED, signature, [new_key().public, signer], "data") == signer
    assert signature.comment.startswith("by ")
    assert signer.name in (DATA / public).read_text()
    assert public_key_of(signer.text) == signer
    with pytest.raises(IntegrityError, match="not of this bundle"):
        check_signature(SIGNED + b"x", signature, [signer], "data")


def test_a_key_of_minisign_s_signs_the_same() -> None:
    secret = secret_key_of(DATA / "plain.key", no_password)
    assert public_key_file(secret.public).split("\n")[1] == (DATA / "plain.pub").read_text().split("\n")[1]
    theirs = read_signature(DATA / "data.txt.minisig")
    ours = sign(SIGNED, secret, theirs.comment)
    assert (ours.signature, ours.global_signature) == (
        theirs.signature,
        theirs.global_signature,
    )  # Ed25519 has no chance in it
    assert secret_key_file(secret, "").split("\n")[1] == (DATA / "plain.key").read_text().split("\n")[1]


def test_an_encrypted_key_of_minisign_s_is_read() -> None:
    secret = secret_key_of(DATA / "locked.key", lambda: "correct horse")
    assert secret.public == public_key_of(str(DATA / "locked.pub"))


def test_scrypt_has_the_parameters_of_libsodium() -> None:
    assert scrypt_parameters(1 << 25, 1 << 30) == (20, 1)  # SENSITIVE
    assert scrypt_parameters(1 << 19, 1 << 24) == (14, 1)  # INTERACTIVE
    assert scrypt_parameters(1 << 15, 1 << 30) == (10, 1)


def test_minisign_s_old_kind_is_refused() -> None:
    with pytest.raises(IntegrityError, match="old format"):
        read_signature(DATA / "legacy.minisig")


# --- keys ---


def test_a_key_is_read_as_it_was_written(tmp_path: Path, key: SecretKey) -> None:
    plain, locked = tmp_path / "plain", tmp_path / "locked"
    write_new(plain, secret_key_file(key, ""), 0o600)
    write_new(locked, secret_key_file(key, "secret", ops=1 << 15, memory=1 << 22), 0o600)
    assert secret_key_of(plain, no_password) == key
    assert secret_key_of(locked, lambda: "secret") == key
    assert plain.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="password is wrong"):
        secret_key_of(locked, lambda: "wrong")
    with pytest.raises(DestinationError):
        write_new(plain, "", 0o600)
    assert base64.b64encode(key.seed).decode() not in repr(key) and str(key.seed) not in repr(key)


@pytest.mark.parametrize(
    "content", ["", "RW", "x\n" * 3, "untrusted comment: x\n", "untrusted comment: x\nUldR\n", "é"]
)
def test_an_invalid_key_is_reported(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=r"not a public key|not a key"):
        public_key_of(str(path))
    with pytest.raises(UsageError, match=r"not a secret key|not a key"):
        secret_key_of(path, no_password)
    with pytest.raises(UsageError, match="No such file"):
        public_key_of(str(tmp_path / "none"))


def test_a_key_that_asks_for_too_much_memory_is_refused(tmp_path: Path) -> None:
    data = bytearray(base64.b64decode((DATA / "locked.key").read_text().split("\n")[1]))
    data[46:54] = (1 << 40).to_bytes(8, "little")
    (tmp_path / "key").write_text(f"untrusted comment: x\n{base64.b64encode(data).decode()}\n")
    with pytest.raises(UsageError, match="more than 1 GiB"):
        secret_key_of(tmp_path / "key", lambda: "x")


# --- bundles ---


def check_bundle(bundle: Path, keys: list[PublicKey]) -> Signed:
    with open_bundle(bundle, FAST) as opened:
        return check_manifest(opened.manifest_bytes, bundle, keys)


def test_a_signature_is_of_one_bundle_and_one_key(bundle: Path, tmp_path: Path, key: SecretKey) -> None:
    made = sign_bundle(bundle, key, "", FAST)
    assert made.comment == "file:b.tar.gz\thashed"
    assert check_bundle(bundle, [new_key().public, key.public]) == made
    with pytest.raises(IntegrityError, match="not one of the accepted keys"):
        check_bundle(bundle, [new_key().public])
    other = tmp_path / "other.tar.gz"
    make_bundle(other, {"environment": [text("bin/tool", b"other @\n", 0o755)]})
    with pytest.raises(IntegrityError, match="there is no signature"):
        check_bundle(other, [key.public])
    shutil.copy(signature_path(bundle), signature_path(other))
    with pytest.raises(IntegrityError, match="not of this bundle"):
        check_bundle(other, [key.public])


def test_a_comment_is_signed_too(bundle: Path, key: SecretKey) -> None:
    path = Path(sign_bundle(bundle, key, "for production", FAST).signature)
    path.write_text(path.read_text().replace("for production", "for everything"))
    with pytest.raises(IntegrityError, match="comment"):
        check_bundle(bundle, [key.public])


@pytest.mark.parametrize("comment", ["a\nb", "a\x1b[2J", "n" * 2000])
def test_a_comment_is_one_printable_line(bundle: Path, key: SecretKey, comment: str) -> None:
    with pytest.raises(UsageError, match="comment"):
        sign_bundle(bundle, key, comment, FAST)


def test_every_bit_of_a_signature_counts(bundle: Path, key: SecretKey) -> None:
    path = Path(sign_bundle(bundle, key, "c", FAST).signature)
    lines = path.read_text().split("\n")
    for row in (1, 3):
        for at in range(0, len(lines[row]), 5):
            changed = [*lines]
            letter = "A" if lines[row][at] != "A" else "B"
            changed[row] = lines[row][:at] + letter + lines[row][at + 1 :]
            path.write_text("\n".join(changed))
            try:
                check_bundle(bundle, [key.public])
            except IntegrityError:
                continue
            # base64's last digit before "=" has bits that count for nothing
            assert base64.b64decode(changed[row]) == base64.b64decode(lines[row])


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff", b"untrusted comment: \n\ntrusted comment: \n\n", b"a\n" * 4]
)
def test_what_is_no_signature_is_refused(bundle: Path, key: SecretKey, content: bytes) -> None:
    signature_path(bundle).write_bytes(content)
    with pytest.raises(IntegrityError, match="not a signature"):
        check_bundle(bundle, [key.public])


def test_what_tar_takes_out_is_what_was_signed(bundle: Path, tmp_path: Path, key: SecretKey) -> None:
    sign_bundle(bundle, key, "", FAST)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xzf", bundle, "-C", tmp_path / "out"], check=True)
    data = (tmp_path / "out/.envpack/manifest.json").read_bytes()
    check_signature(data, read_signature(signature_path(bundle)), [key.public], "manifest")


# --- the policy ---


def host(root: Path, text: str) -> Path:
    (root / "etc/envpack").mkdir(parents=True, exist_ok=True)
    (root / "etc/envpack/policy.toml").write_text(text)
    return root


PLAIN: Any = (False, False, True, None)


def run(
    root: Path, words: Sequence[str], environ: dict[str, str] | None = None
) -> tuple[int, str, dict[str, Any]]:
    out, err = io.StringIO(), io.StringIO()
    console = Console(Stream(out, *PLAIN), Stream(err, *PLAIN), environ or {}, root=root)
    code = main([*words, "--json"], console)
    return code, err.getvalue(), json.loads(out.getvalue())


def deployed(root: Path, bundle: Path, *options: str) -> tuple[int, str]:
    code, said, _ = run(root, ["deploy", "--no-check", str(bundle), str(bundle.parent / "x"), *options])
    return code, said


def test_a_host_without_a_policy_takes_any_bundle(tmp_path: Path, bundle: Path) -> None:
    assert signature_policy(tmp_path) is None
    assert deployed(tmp_path, bundle)[0] == 0


def test_a_policy_takes_what_its_keys_signed_and_nothing_else(
    tmp_path: Path, bundle: Path, key: SecretKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ci.pub").write_text(public_key_file(key.public))
    root = host(tmp_path / "root", f'require = ["{new_key().public.text}", "{tmp_path}/ci.pub"]')
    before = sorted(tmp_path.iterdir())
    code, said = deployed(root, bundle)
    assert code == 7 and "requires a signature" in said and "no signature" in said
    sign_bundle(bundle, new_key(), "", FAST)
    assert deployed(root, bundle)[0] == 7
    assert sorted(tmp_path.iterdir()) == sorted([*before, signature_path(bundle)])
    for name in ("ENVPACK_POLICY", "ENVPACK_ROOT", "ENVPACK_SKIP_CHECK", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert deployed(root, bundle, "--no-test")[0] == 7
    sign_bundle(bundle, key, "", FAST)
    code, said = deployed(root, bundle)
    assert code == 0 and f"signed by {key.public.name}" in said


def test_repair_obeys_the_policy(tmp_path: Path, bundle: Path, key: SecretKey) -> None:
    assert deployed(tmp_path, bundle)[0] == 0
    root = host(tmp_path / "root", f'require = ["{key.public.text}"]')
    assert run(root, ["repair", str(tmp_path / "x"), str(bundle)])[0] == 7
    sign_bundle(bundle, key, "", FAST)
    assert run(root, ["repair", str(tmp_path / "x"), str(bundle)])[0] == 0


def test_an_archive_of_another_tool_is_refused_by_a_policy(tmp_path: Path, key: SecretKey) -> None:
    archive = tar(tmp_path / "demo.tar.gz")
    root = host(tmp_path / "root", f'require = ["{key.public.text}"]')
    code, said = deployed(root, archive)
    assert code == 7 and "another tool" in said and not (tmp_path / "x").exists()
    assert deployed(tmp_path, archive)[0] == 0


def test_the_runtime_of_a_bundle_refuses_where_there_is_a_policy(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = host(tmp_path / "root", 'require = ["x"]')
    words = ["deploy", "--no-check", str(bundle), str(tmp_path / "x")]
    assert runtime(words, root) == 7
    assert "envpack deploy" in capsys.readouterr().err and not (tmp_path / "x").exists()
    assert runtime(words, tmp_path) == 0


def test_a_file_in_the_working_directory_is_not_taken_for_a_trusted_key(
    tmp_path: Path, bundle: Path, key: SecretKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacker = new_key()
    monkeypatch.chdir(tmp_path)
    for name in (key.public.text, "RWour.pub"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(public_key_file(attacker.public))
    sign_bundle(bundle, attacker, "", FAST)
    code, said = deployed(host(tmp_path / "root", f'require = ["{key.public.text}"]'), bundle)
    assert code == 7 and "requires a signature" in said
    code, said = deployed(host(tmp_path / "root", 'require = ["RWour.pub"]'), bundle)
    assert code == 7 and "'RWour.pub' is not a public key" in said
    assert run(tmp_path / "none", ["verify", str(bundle), "--key", key.public.text])[0] == 7
    assert run(tmp_path / "none", ["verify", str(bundle), "--key", "RWour.pub"])[0] == 0


@pytest.mark.parametrize(
    "text",
    [
        *("", "require = []", "require = 1", "require = [1]", "require = [", "\\0"),
        *('require = ["x"]', 'require = ["RWx"]', 'requires = ["x"]', 'require = ["/none"]'),
    ],
)
def test_a_policy_that_can_not_be_followed_refuses_everything(tmp_path: Path, bundle: Path, text: str) -> None:
    root = host(tmp_path / "root", text)
    code, said = deployed(root, bundle)
    assert code == 7 and "policy.toml" in said and not (tmp_path / "x").exists()


def test_a_policy_that_is_no_file_refuses_everything(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "root/etc/envpack/policy.toml").mkdir(parents=True)
    assert deployed(tmp_path / "root", bundle)[0] == 7
    (tmp_path / "root/etc/envpack/policy.toml").rmdir()
    (tmp_path / "root/etc/envpack/policy.toml").symlink_to("nowhere")
    assert deployed(tmp_path / "root", bundle)[0] == 7


@pytest.mark.parametrize("path", ["etc/envpack/policy.toml", "etc/envpack", "etc", "keys/ci.pub", "keys"])
def test_a_policy_that_others_may_write_refuses_everything(
    tmp_path: Path, bundle: Path, key: SecretKey, path: str
) -> None:
    root = tmp_path / "root"
    (root / "keys").mkdir(parents=True)
    (root / "keys/ci.pub").write_text(public_key_file(key.public))
    host(root, f'require = ["{root}/keys/ci.pub"]')
    sign_bundle(bundle, key, "", FAST)
    mode = (root / path).stat().st_mode
    (root / path).chmod(mode | 0o002)
    code, said = deployed(root, bundle)
    assert code == 7 and f"users other than root can write to {root / path}" in said
    (root / path).chmod(mode)
    assert deployed(root, bundle)[0] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_policy_of_another_user_or_a_link_to_one_refuses_everything(
    tmp_path: Path, bundle: Path, key: SecretKey
) -> None:
    root = host(tmp_path / "root", f'require = ["{key.public.text}"]')
    policy = root / "etc/envpack/policy.toml"
    sign_bundle(bundle, key, "", FAST)
    os.chown(policy, 1234, -1)
    assert deployed(root, bundle)[0] == 7
    policy.rename(root / "etc/theirs")
    policy.symlink_to("../theirs")
    assert deployed(root, bundle)[0] == 7
    os.chown(root / "etc/theirs", 0, -1)
    assert deployed(root, bundle)[0] == 0
    os.chown(root / "etc/theirs", 0, 1234)
    (root / "etc/theirs").chmod(0o664)
    assert deployed(root, bundle)[0] == 7
    (root / "etc/theirs").chmod(0o644)
    assert deployed(root, bundle)[0] == 0
    let_write(root / "etc/theirs", 1234)
    assert deployed(root, bundle)[0] == 7


def test_a_policy_that_is_a_pipe_refuses_everything(tmp_path: Path, bundle: Path) -> None:
    root = host(tmp_path / "root", "")
    (root / "etc/envpack/policy.toml").unlink()
    os.mkfifo(root / "etc/envpack/policy.toml")
    code, said = deployed(root, bundle)
    assert code == 7 and "it is a pipe, not a regular file" in said


def named(path: Path, name: str, version: str, key: SecretKey) -> Path:
    make_bundle(path, {"environment": [text("bin/tool", b"@\n", 0o755)]}, name=name, version=version)
    sign_bundle(path, key, "", FAST)
    return path


def test_a_bundle_of_another_program_than_the_one_deployed_is_reported_and_refused_by_a_policy(
    tmp_path: Path, key: SecretKey
) -> None:
    root = host(tmp_path / "root", f'require = ["{key.public.text}"]')
    assert deployed(root, named(tmp_path / "a.tar.gz", "demo", "1.0", key))[0] == 0
    other = named(tmp_path / "b.tar.gz", "other", "1.0", key)
    code, said = deployed(root, other)
    assert code == 7 and "the bundle is other 1.0, and the deployment at the destination is demo" in said
    assert deployed(root, named(tmp_path / "c.tar.gz", "demo", "2.0", key))[0] == 0
    code, said = deployed(tmp_path, other)
    assert code == 0 and "warning: the bundle is other 1.0" in said


@pytest.mark.parametrize(
    ("file_name", "right"),
    [
        ("demo-1.0-20251219-linux-64.tar.gz", True),
        ("demo-1.0-20251219.3-linux-aarch64.tar.zst", True),
        ("b.tar.gz", True),
        ("demo-latest.tar.gz", True),
        ("demo-2.0-20251219-linux-64.tar.gz", False),  # an old version by the name of a new one
        ("demo-tools-1.0-20251219-linux-64.tar.gz", False),
    ],
)
def test_a_signed_bundle_by_the_name_of_another_is_reported_and_refused_by_a_policy(
    tmp_path: Path, key: SecretKey, file_name: str, right: bool
) -> None:
    root = host(tmp_path / "root", f'require = ["{key.public.text}"]')
    path = named(tmp_path / file_name, "demo", "1.0", key)
    warning = f"the bundle is demo 1.0, which {file_name} is not the name of"
    code, said = deployed(root, path)
    assert (code, warning in said) == ((0, False) if right else (7, True))
    code, said, _ = run(tmp_path, ["verify", str(path), "--key", key.public.text])
    assert (code, warning in said) == (0, not right)


def test_the_approval_is_of_the_manifest_that_is_read(tmp_path: Path, bundle: Path, key: SecretKey) -> None:
    """The bytes that were read are approved, not a file that may have been replaced since."""
    root = host(tmp_path / "root", f'require = ["{key.public.text}"]')
    sign_bundle(bundle, key, "", FAST)
    approve = approval(Console(Stream(io.StringIO(), *PLAIN), Stream(io.StringIO(), *PLAIN), {}, root=root))
    assert approve is not None
    with open_bundle(bundle, FAST) as opened:
        approve(opened.manifest_bytes, bundle)
        with pytest.raises(IntegrityError):
            approve(opened.manifest_bytes + b" ", bundle)


# --- the commands ---


def test_sign_and_verify_as_commands(tmp_path: Path, bundle: Path) -> None:
    name = tmp_path / "ci"
    code, _, made = run(tmp_path, ["sign", "--new-key", str(name), "--no-password"])
    assert code == 0 and made["result"]["made"] == [f"{name}.key", f"{name}.pub"]
    assert run(tmp_path, ["sign", "--new-key", str(name), "--no-password"])[0] == DestinationError.code
    assert run(tmp_path, ["verify", str(bundle), "--key", f"{name}.pub"])[0] == 7
    code, _, signed = run(tmp_path, ["sign", str(bundle), "--key", f"{name}.key", "--comment", "c"])
    assert code == 0 and signed["result"]["signed"][0]["comment"] == "c"
    code, _, found = run(tmp_path, ["verify", str(bundle), "--key", made["result"]["key"]])
    assert code == 0 and found["result"]["signed"]["key"] == made["result"]["key"]
    assert run(tmp_path, ["verify", str(bundle)])[2]["result"]["signed"] is None
    assert run(tmp_path, ["verify", str(bundle), "--key", new_key().public.text])[0] == 7
    assert run(tmp_path, ["verify", str(bundle), "--key", "RWnonsense"])[0] == 2


def test_the_key_may_be_in_the_settings(tmp_path: Path, bundle: Path) -> None:
    run(tmp_path, ["sign", "--new-key", str(tmp_path / "k"), "--no-password"])
    (tmp_path / "envpack").mkdir()
    (tmp_path / "envpack/config.toml").write_text(f'sign_key = "{tmp_path}/k.key"')
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert load_config(environ) != Config()
    assert run(tmp_path, ["sign", str(bundle)], environ)[0] == 0
    code, said, _ = run(tmp_path, ["sign", str(bundle)])
    assert code == 2 and "a key is missing" in said


def test_a_key_s_line_and_its_file_are_distinguished(key: SecretKey) -> None:
    assert public_key(key.public.text, "x") == key.public == public_key_of(key.public.text)
    with pytest.raises(UsageError):
        public_key(key.public.text + "\n" + key.public.text, "x")

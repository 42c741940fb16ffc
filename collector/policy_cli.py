"""`byoc collector policy ...`: the customer's key, signatures, and which policy holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from collector.left_cli import ConfigOption

app = typer.Typer(no_args_is_help=True, help="The policy file: sign it, check it, see which one holds.")
PolicyArgument = Annotated[Path, typer.Argument(help="The policy file.")]
KeyOption = Annotated[Path, typer.Option("--key", help="PEM of the private key, mode 0600.")]
PublicOption = Annotated[Path, typer.Option("--public-key", help="PEM of the public key.")]


@app.command()
def keygen(key: KeyOption = Path("policy.key"), public_key: PublicOption = Path("policy.pub")) -> None:
    """Make a pair of keys. Keep the private one away from the collector's machine."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from collector.policy_file import key_id, render_keys
    from kernel.errors import Conflict

    for path in (key, public_key):
        if path.exists():
            raise Conflict(f"{path} is there already: name another file, or move it away")
    made = Ed25519PrivateKey.generate()
    private, public = render_keys(made)
    _write_new(key, private, 0o600)
    _write_new(public_key, public, 0o644)
    typer.echo(f"{key} (keep it secret) and {public_key}; key id {key_id(made.public_key())}")


@app.command()
def sign(
    policy: PolicyArgument,
    key: KeyOption = Path("policy.key"),
    detached: Annotated[bool, typer.Option("--detached", help="Write FILE.sig; leave the file as it is.")] = False,
) -> None:
    """Sign a policy: its last line becomes the signature. Refuses what the collector would refuse."""
    from collector.errors import PolicyRefused
    from collector.policy_accepted import check_version
    from collector.policy_file import key_id, load_private_key, parse_policy, unsigned
    from collector.policy_file import sign as signature_of
    from collector.spool.files import write_atomically

    private = load_private_key(key)
    raw = policy.read_bytes()
    content = raw if detached else unsigned(raw, str(policy))
    line = signature_of(content, private)
    signed = parse_policy(content, str(policy), line) if detached else parse_policy(content + line, str(policy))
    if detached and signed.raw != signed.content:
        raise PolicyRefused(
            f"{policy}: a signature is in the file: remove its last line, or sign without --detached"
        )
    check_version(signed, None)
    mode = policy.stat().st_mode & 0o777
    if detached:
        write_atomically(policy.with_name(policy.name + ".sig"), line, 0o644)
    else:
        write_atomically(policy, content + line, mode)
    typer.echo(f"{policy}: version {signed.document.version}, signed by key {key_id(private.public_key())}")


@app.command()
def verify(
    policy: PolicyArgument,
    public_key: PublicOption = Path("policy.pub"),
    signature: Annotated[Path | None, typer.Option(help="A detached signature; default FILE.sig.")] = None,
) -> None:
    """Whether a policy can be read and is signed by this key."""
    from collector.policy_file import load_public_key, read_policy

    found = read_policy(policy, signature)
    found.check_signature(load_public_key(public_key))
    typer.echo(f"{policy}: good, version {found.document.version}, sha256 {found.digest}")


@app.command()
def status(config: ConfigOption) -> None:
    """Which policy holds by the files as they are now, and whether anything is shipped under it."""
    from collector.policy_keeper import load_policy
    from collector.settings import load_collector_settings

    settings = load_collector_settings(config)
    held = load_policy(settings, keep=False)
    change = held.change
    if change is not None:
        typer.echo(f"policy:   {change.source}, version {change.version}, {change.mode}, sha256 {change.digest}")
        typer.echo(f"keys:     pseudonyms {change.key}")
    else:
        typer.echo("policy:   none: nothing is spooled")
    typer.echo("shipping: goes on" if held.problem is None else f"shipping: STOPPED: {held.problem}")
    raise typer.Exit(0 if held.problem is None else 1)


@app.command()
def pseudonym(
    config: ConfigOption,
    label: Annotated[str, typer.Argument(help="Name of the label.")],
    value: Annotated[str, typer.Argument(help="Its value, as the target writes it.")],
) -> None:
    """The pseudonym under which a label's value leaves: to find your own series at the vendor."""
    from collector.identity.store import IdentityFolder
    from collector.policy import AllowList
    from collector.policy_keeper import pseudonym_key
    from collector.policy_settings import PolicySettings
    from collector.settings import load_collector_settings
    from kernel.errors import NotFound

    settings = load_collector_settings(config)
    folder = IdentityFolder(settings.gateway.identity)
    if settings.pseudonyms.key_file is None and not folder.pseudonym_path.exists():
        raise NotFound(f"{folder.pseudonym_path}: no key yet: the collector makes it at its first start")
    key = pseudonym_key(settings, folder)
    typer.echo(AllowList(PolicySettings(), key).pseudonym(label, value))


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)

"""The command that signs."""

from __future__ import annotations

import os

import click

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.shell import questions
from adaptkit.cli.shell.session import Session, json_option, pass_session


@click.command()
@REF
@click.option(
    "--key",
    required=True,
    metavar="PRIVATE",
    help="A PEM file with a P-256, P-384 or P-521 private key.",
)
@json_option
@pass_session
def sign(session: Session, ref: str, key: str) -> None:
    """Sign REF: its name, its files, its base and its lineage. The signature travels with the next push.

    The password of an encrypted key is read from ADAPTKIT_KEY_PASSWORD, or asked for.
    """
    from adaptkit.signing.keys import is_encrypted

    password = os.environ.get("ADAPTKIT_KEY_PASSWORD", "")
    if not password and is_encrypted(key):
        password = questions.password(key, variable="ADAPTKIT_KEY_PASSWORD")
    signed = session.workspace.sign(ref, key, password=password)
    done = "signed" if signed.created else "signed already"
    session.out.data(signed.to_json(), f"{signed.ref}  {done} by {signed.fingerprint[:19]}…")

"""``sightline tokens``: which machines may call, and what."""

from __future__ import annotations

import datetime
import os
import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.adapters.tokenfile import read_tokens, today_utc, write_tokens
from services.core.errors import InvalidInputError
from services.core.machine_token import RANDOM_BYTES, MachineToken, hash_of, make_token, parse_scopes

tokens_app = typer.Typer(help="Which machines may call the services, and what.", no_args_is_help=True)
_OUT = Console()
File = Annotated[Path, typer.Option("--file", help="The tokens file, as GRPC__TOKENS_FILE names it.")]
Name = Annotated[str, typer.Argument(help="Of the machine, for example press-7.")]


@tokens_app.command("issue")
def issue(
    name: Name,
    file: File,
    scope: Annotated[list[str], typer.Option(help="What it permits; may be given several times.")],
    days: Annotated[int, typer.Option(min=1, max=3_650, help="It is taken for this many days.")] = 365,
    out: Annotated[Path | None, typer.Option(help="Write the token to this new file instead of printing it.")] = None,
) -> None:
    """Make a token, shown this once; the file keeps only its hash."""
    tokens = read_tokens(file) if file.exists() else ()
    if any(token.name == name for token in tokens):
        raise InvalidInputError(f"a token's name must be new, got {name!r}: revoke that one first")
    secret = make_token(secrets.token_bytes(RANDOM_BYTES))
    expires = today_utc() + datetime.timedelta(days=days)
    made = MachineToken.checked(name, hash_of(secret), parse_scopes(scope), expires)
    if out is not None:
        # Before the hash is kept: a token that could not be written is not one that is let in.
        try:
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise InvalidInputError(f"--out must name a new file, got {str(out)!r}: {error.strerror}") from error
        with os.fdopen(descriptor, "w", encoding="ascii") as target:
            target.write(secret + "\n")
    write_tokens(file, [*tokens, made])
    if out is None:
        typer.echo(secret)


@tokens_app.command("list")
def list_tokens(file: File) -> None:
    """Show who may call what, and until when."""
    table = Table("name", "scopes", "last day", box=None)
    for token in read_tokens(file):
        expired = " (expired)" if token.expires < today_utc() else ""
        scopes = ", ".join(sorted(token.scopes))
        table.add_row(Text(token.name), scopes, f"{token.expires.isoformat()}{expired}")
    _OUT.print(table)


@tokens_app.command("revoke")
def revoke(name: Name, file: File) -> None:
    """Take a token back; services notice within seconds."""
    tokens = read_tokens(file)
    kept = [token for token in tokens if token.name != name]
    if len(kept) == len(tokens):
        raise InvalidInputError(f"a token to revoke must be in {str(file)!r}, got {name!r}")
    write_tokens(file, kept)
    _OUT.print(f"{name} is let in no more", markup=False, highlight=False)

"""`oci://`: an OCI registry, through httpx.

Notable choices:
- `vN` is a tag; the image has a layer for each file, titled, and one for `adaptkit.json`: `oras pull` gives a PEFT
  directory. Media types are those of CNCF ModelPack; annotations show base and lineage
- a layer's digest is the sha256 that `adaptkit.json` states for the file, so a pull is pinned: it asks for content, and
  a tag that moves meanwhile changes nothing
- tags have no create-only: look, put, read back at once and once more after a moment, take the next number after
  a lost race. `probe` reports that this is less than other places promise
- an alias is a tag that points at the same image
- a blob goes up in pieces; after a broken connection the registry is asked how far it came, after a lost upload it begins again. What the registry has is not sent, what this process saw in another repository there is mounted
- logins are docker's; they go to the registry itself and to the HTTPS token server that it names, nowhere else
- signatures and the like are artifacts with a `subject`; the tag `sha256-…` lists them where the registry does not
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.hookspecs import hookimpl
from adaptkit_plugins.storage.oci.backend import OciBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend import StorageBackend

__all__ = ["OciBackend"]


@hookimpl
def register_storage_backends(register: Callable[[type[StorageBackend]], None]) -> None:
    """Register the backend."""
    register(OciBackend)

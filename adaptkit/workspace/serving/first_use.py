"""Pull what a server is asked for by `REMOTE:name`, once, however many requests wait for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.bases.compare import admits
from adaptkit.errors import AdaptkitError, BaseMismatch, NoRoom, Refused
from adaptkit.io.sizes import size_text
from adaptkit.workspace.lookup.bases import same_base
from adaptkit.workspace.lookup.places import choose_placed
from adaptkit.workspace.remotes.pull import pull

if TYPE_CHECKING:
    from concurrent.futures import Future

    from adaptkit.refs import NameRef, RemoteRef
    from adaptkit.types import BaseIdentity
    from adaptkit.workspace.context.context import Context

LARGEST = 2 * 10**9  # bytes of an adapter that a request may bring here
PATIENCE = 30.0  # seconds that a request waits for a pull; the pull goes on
AT_ONCE = 2  # pulls


class FirstUse:
    """Versions of remotes, by what they are called there.

    What a reference meant at its first use it means as long as the server runs: a newer version there is
    not looked for.
    """

    def __init__(self, context: Context, base: BaseIdentity, *, force: bool = False) -> None:
        self._context, self._base, self._force = context, base, force
        self._lock = Lock()
        self._pulls: dict[RemoteRef, Future[NameRef]] = {}
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="adaptkit-pull")

    def here(self, ref: RemoteRef) -> NameRef:
        """The registered version; `NoRoom` while it is still being fetched."""
        with self._lock:
            waiting = self._pulls.get(ref)
            if waiting is None:
                waiting = self._pulls[ref] = self._threads.submit(self._pull, ref)
        try:
            return waiting.result(PATIENCE)
        except TimeoutError:
            raise NoRoom(
                f"{ref} is still being fetched",
                why=f"it was not here within {PATIENCE:g} s",
                fix="ask again in a moment",
            ) from None
        except AdaptkitError:
            with self._lock:  # the next request tries again
                if self._pulls.get(ref) is waiting:
                    del self._pulls[ref]
            raise

    def _pull(self, ref: RemoteRef) -> NameRef:
        _, placed = choose_placed(self._context, str(ref))
        manifest = placed.manifest
        size = sum(file.size for file in manifest.files)
        if size > LARGEST:
            raise Refused(
                f"cannot fetch {ref} for a request",
                why=f"it has {size_text(size)}, at most {size_text(LARGEST)} are fetched",
                fix=f"adaptkit pull {ref}",
            )
        verdict = same_base(self._context, manifest.base, self._base)
        ruling = admits(verdict, manifest.base, self._base, "serve")
        if not ruling.allowed and not self._force:
            raise BaseMismatch(
                f"cannot serve {ref} on this base",
                why=ruling.reason,
                fix="serve the base it was trained on",
            )
        found = refs.parse(pull(self._context, str(ref)).version.ref)
        assert isinstance(found, refs.NameRef)
        return found

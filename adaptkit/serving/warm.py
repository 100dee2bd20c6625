"""The start of a server: what is pinned is loaded and checked, then what was popular before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import AdaptkitError, NoRoom
from adaptkit.serving import composition
from adaptkit.serving.bank.silent import check_effect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from adaptkit.serving.api.service import Service


def start(service: Service, preload: Sequence[str], notify: Callable[[str], None]) -> None:
    """Pin `preload`, else what was pinned before, and fill the other slots with what was popular.

    What of `preload` cannot be served is an error; what was kept from before is only named.
    """
    if preload:
        for ref in preload:
            _pin(service, ref)
        service.popularity.pin(preload)
    else:
        for ref in service.popularity.pinned:
            try:
                _pin(service, ref)
            except AdaptkitError as error:
                notify(f"{ref} was pinned and is not now: {error.summary}")
    free = service.bank.slots - len(service.bank.resident)
    for digest in reversed(service.popularity.top(max(0, free))):  # the most popular one last
        try:
            _load(service, service.adapters.resolve(refs.DigestRef(digest))[1])
        except AdaptkitError as error:
            notify(f"{digest[:19]} was popular and is not loaded: {error.summary}")


def _pin(service: Service, ref: str) -> None:
    digests = service.resolve(composition.parse(ref)).digests
    if not service.bank.can_hold(digests):
        raise NoRoom(
            f"cannot keep {ref} in a slot",
            why=f"all {service.bank.slots} slots are pinned",
            fix="more --slots, or fewer REFs",
        )
    for digest in digests:
        _load(service, digest)
        service.bank.pin(digest)


def _load(service: Service, digest: str) -> None:
    """Into memory and a slot; with an effect, where that is checked."""
    service.have(digest)
    if service.batcher.heard is not None:
        check_effect(service.bank, digest)
        service.batcher.heard.add(digest)
    else:
        with service.bank.rows([digest]):
            pass

"""`Router`: turns `auto` and `arrow(…)` into what a live model serves, with the scores of each choice."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.errors import BaseMismatch
from adaptkit.serving.bank.arrow import ArrowMixture, Tally
from adaptkit.serving.composition import BASE, Composition, Part
from adaptkit.serving.routing import MOST, WITHIN, Profile, Route, choose, route_of, unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from adaptkit.extend import Array
    from adaptkit.serving.adapters import Adapters
    from adaptkit.serving.bank.bank import Bank

TEMPERATURE = 1.0
"""Of the shares that `auto` reports: nats per dimension; the choice itself does not depend on it."""


def exact(version: str) -> Part:
    """A version as a part: by its name, which is what a key may or may not ask for."""
    ref = refs.parse(version)
    assert isinstance(ref, (refs.NameRef, refs.DigestRef))
    return Part(ref)


class Router:
    """Chooses adapters for prompts, or the base where none is `within` that distance. Called from several threads."""

    def __init__(
        self,
        bank: Bank,
        adapters: Adapters,
        have: Callable[[str], None],
        *,
        within: float = WITHIN,
    ) -> None:
        self._bank, self._adapters, self._have, self.within = bank, adapters, have, within
        self._profiles: dict[str, Profile] = {}
        self._lock = Lock()

    def auto(
        self,
        asked: Composition,
        prompt: Sequence[int],
        may: Callable[[Composition], bool],
    ) -> tuple[Composition, Route]:
        """The adapter whose own data is most like the prompt, or the base; without names, of all that `may` be asked for."""
        candidates, passed_over = self._candidates(asked, may)
        for digest in candidates.values():
            self._have(digest)
        inputs = self._read(prompt)
        sizes = {name: array.shape[1] for name, array in inputs.items()}
        profiles = {
            version: profile
            for version, digest in candidates.items()
            if (profile := self._profile(digest, sizes)) is not None
        }
        if not profiles:
            raise unmeasured([*candidates, *passed_over])
        route = choose(profiles, inputs, TEMPERATURE, self.within)
        parts = () if route.chosen == BASE else (exact(route.chosen),)
        return Composition("stack", parts), route

    def arrow(
        self, versions: Sequence[str], digests: Sequence[str], prompt: Sequence[int]
    ) -> Route:
        """What share of the prompt's tokens each adapter gets, over all layers."""
        import torch

        tally = Tally(len(digests))
        with torch.inference_mode(), self._bank.rows([ArrowMixture(digests, tally=tally)]):
            self._forward(prompt)
        named = f"arrow({', '.join(versions)})"
        return route_of("arrow", named, dict(zip(versions, tally.means, strict=True)))

    def _candidates(
        self, asked: Composition, may: Callable[[Composition], bool]
    ) -> tuple[dict[str, str], list[str]]:
        """Versions with their digests, and those that were never measured.

        Those of another base are left out unless they were named.
        """
        if asked.parts:
            return dict(self._adapters.resolve(part.ref) for part in asked.parts), []
        found: dict[str, str] = {}
        passed_over: list[str] = []
        for name in self._adapters.names():
            ref = refs.parse(name)
            assert isinstance(ref, refs.NameRef)
            if ref.selector is not None and ref.selector.kind == "alias":
                continue
            if not may(Composition("stack", (Part(ref),))):
                continue
            try:
                version, digest = self._adapters.resolve(ref)
            except BaseMismatch:
                continue
            if self._adapters.measured(digest):
                found[version] = digest
            else:
                passed_over.append(version)
            if len(found) == MOST:
                break
        return found, passed_over

    def _profile(self, digest: str, sizes: dict[str, int]) -> Profile | None:
        with self._lock:
            found = self._profiles.get(digest)
            if found is None:
                found = self._adapters.profile(digest, lambda read: Profile.of(read, sizes))
                if found is not None:
                    self._profiles[digest] = found
            return found

    def _read(self, prompt: Sequence[int]) -> dict[str, Array]:
        """What goes into each adapted layer when the base alone reads the prompt."""
        import torch

        inputs: dict[str, Array] = {}

        def see(name: str, x: Tensor) -> None:
            inputs[name] = x.reshape(-1, x.shape[-1]).to("cpu", torch.float64).numpy()

        with torch.inference_mode(), self._bank.watched(see):
            self._forward(prompt)
        return inputs

    def _forward(self, prompt: Sequence[int]) -> None:
        import torch

        model: Any = self._bank.model
        ids = torch.tensor([list(prompt)], device=model.device)
        model.base_model(input_ids=ids, use_cache=False)

"""Measure the second moment of what goes into every adapted module, while the adapter is on, on its own data.

Notable choices:
- every token of prompt and answer counts, padding does not; a prompt without an answer gets the adapter's own
- modules that are fed the same tensor (q, k and v; gate and up) share one moment
- inputs stream through a sketch (`algebra.moments`), so memory does not grow with the data
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.algebra.moments import RANK, Sketch
from adaptkit.errors import AdaptkitError
from adaptkit.io.progress.progress import no_progress
from adaptkit.training.live import module_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.extend import Moment
    from adaptkit.io.progress.progress import Progress
    from adaptkit.training.data.tokens import Tokens
    from adaptkit.training.live import LiveModel

BATCH = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """The moments by name, which module has which, the modules whose inputs are no vectors, and the tokens seen."""

    moments: Mapping[str, Moment]
    modules: Mapping[str, str]
    unmeasured: tuple[str, ...]
    tokens: int


def measure(
    live: LiveModel,
    adapter: str,
    rows: Sequence[Tokens],
    modules: Mapping[str, int],
    *,
    rank: int = RANK,
    progress: Progress = no_progress,
) -> Measured:
    """Feed the rows through the base with the adapter on; `modules` maps names to numbers of inputs."""
    import torch

    watch = _Watch(modules, rank)
    with live.switched(adapter) as model:
        hooks = [
            module_in(model, name, adapter).register_forward_pre_hook(
                watch.hook(name), with_kwargs=True
            )
            for name in modules
        ]
        try:
            for at in range(0, len(rows), BATCH):
                group = rows[at : at + BATCH]
                ids, mask = live.batch(group)
                watch.mask = mask.bool()
                with torch.no_grad():
                    model(input_ids=ids, attention_mask=mask, use_cache=False)
                watch.seen.clear()
                progress(len(group))
        finally:
            for hook in hooks:
                hook.remove()
    groups = {name: group for name, group in sorted(watch.group.items()) if group in watch.sketches}
    unmeasured = tuple(sorted(modules.keys() - groups.keys()))
    if not groups:
        raise AdaptkitError(
            "no module's inputs could be measured",
            why="none of the adapted modules is fed one vector a token",
            fix="merge with a strategy that needs no moments, such as --strategy linear",
        )
    names = {group: f"g{i:04}" for i, group in enumerate(sorted(set(groups.values())))}
    return Measured(
        {names[group]: watch.sketches[group].moment() for group in names},
        {module: names[group] for module, group in groups.items()},
        unmeasured,
        sum(len(row.ids) for row in rows),
    )


@dataclass(slots=True)
class _Watch:
    """Collects inputs while the model runs. A group is called after the first of its modules."""

    sizes: Mapping[str, int]
    rank: int
    mask: Any = None
    group: dict[str, str] = field(default_factory=dict)
    sketches: dict[str, Sketch] = field(default_factory=dict)
    seen: dict[int, tuple[str, Any]] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)

    def hook(self, name: str) -> Any:
        def look(_module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()), None)
            if x is None or not self._vectors(x, self.sizes[name]):
                self.bad.add(name)
                self.sketches.pop(self.group.pop(name, name), None)
                return
            if name in self.bad:
                return
            first, _ = self.seen.setdefault(id(x), (name, x))  # kept, so that no id is used twice
            if self.group.setdefault(name, first) != first:
                first = self.group[name]  # it shared once and does not now: keep measuring its own
            if first == name:
                sketch = self.sketches.setdefault(name, Sketch(self.sizes[name], self.rank))
                sketch.add(x[self.mask].float().cpu().numpy())

        return look

    def _vectors(self, x: Any, size: int) -> bool:
        shape = tuple(getattr(x, "shape", ()))
        return len(shape) == 3 and shape[:2] == tuple(self.mask.shape) and shape[2] == size

"""Making adapters out of adapters."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit import identity, refs
from adaptkit.actions import Merge
from adaptkit.contents import MANIFEST
from adaptkit.errors import BadRecipe, BadReference, BaseMismatch, Unmergeable
from adaptkit.files import atomic_write, explained, user_path
from adaptkit.folders import empty_target, pretty_json, rename_into, staging
from adaptkit.machine import machine
from adaptkit.results import Baked, Extracted, Merged
from adaptkit.types import Parent
from adaptkit.verbs.shelf import Shelf

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from adaptkit.analysis import Comparison
    from adaptkit.bake import BakeReport
    from adaptkit.outcome import Source
    from adaptkit.types import BaseIdentity
    from adaptkit.weights import BaseWeights


class Making(Shelf):
    """Makes new adapters."""

    def merge(
        self,
        sources: Sequence[str],
        *,
        name: str | None = None,
        out: str | os.PathLike[str] | None = None,
        strategy: str = "linear",
        base: str | os.PathLike[str] | None = None,
        message: str = "",
        alias: str | None = None,
        force: bool = False,
        new_version: bool = False,
        allow_pickle: bool = False,
        workers: int | None = None,
        into_lora: bool = False,
        **choices: Any,
    ) -> Merged:
        """Merge `REF[=W]…` into the next version of `name`, or into the folder `out` without registering.

        `into_lora` packs the result as low-rank factors even where the method would stay itself. `base` is the
        folder of the base, for methods whose update needs its weights (DoRA, OFT, …). `choices` are
        those of `recipe.resolve`: space, params, rank, seed, dtype, extras, missing, normalize.
        """
        from adaptkit import merge, recipe
        from adaptkit.admission import admit_together, best_known
        from adaptkit.intake import Base
        from adaptkit.weights import BaseWeights

        if (name is None) == (out is None):
            raise BadReference("a merge goes to one place", why="give either a name or a folder",
                               fix="--name NAME registers it, --out DIR writes a folder")  # fmt: skip
        if name is not None:
            refs.check_name(name)
        target = None if out is None else empty_target(Path(out))
        plan = self.plugins.strategy(strategy)
        weighted = [refs.split_weight(text) for text in sources]
        with ExitStack() as stack, staging(self._tmp if target is None else target.parent) as work:
            weights = None if base is None else stack.enter_context(BaseWeights.open(user_path(base)))
            opened, parents = self._open(weighted, work, stack, allow_pickle=allow_pickle, weights=weights)
            made = recipe.resolve(plan, parents, **choices)
            bases = [(parent.label, known) for parent, (_, known) in zip(parents, opened, strict=True)]
            if base is not None:
                bases.insert(0, (str(base), self._bases.measured(user_path(base)).identity))
            facts = admit_together(bases, self._pairs, force=force)
            for text in (*facts.get("forced", ()), *facts.get("warnings", ())):
                self.notify(text)
            self._review(Merge(made.sources, tuple(known for _, known in opened), made.canonical(), name))
            folder = work / "merged"
            with explained("write", folder):
                folder.mkdir()
            with self._watch("merging", None) as step:
                report = merge.run(made, plan, [source for source, _ in opened], folder, workers=workers,
                                   method=self.plugins.packing_method(), into_lora=into_lora,
                                   done=lambda *_: step(1))  # fmt: skip
            facts["loss"] = {"error": report.error.total, "from_sum": report.from_sum, "dropped": list(report.dropped)}
            facts["made_with"] = machine()
            known = Base(best_known([found for _, found in bases]))
            intake = self._sources.made(folder, known, work)
            manifest = replace(intake.manifest, parents=made.sources, recipe=made.canonical(), facts=facts)
            intake = replace(intake, manifest=manifest)
            if target is not None:
                atomic_write(folder / MANIFEST, pretty_json(manifest.to_json()))
                rename_into(folder, target)
                return Merged(report, made, manifest, out=target)
            assert name is not None
            added = self._register(intake, name, message=message, alias=alias, new_version=new_version, origin="merged")
            return Merged(report, made, manifest, added.version, added.created)

    def compose(self, path: str | os.PathLike[str], **how: Any) -> Merged:
        """Make what a recipe file says (see `adaptkit.compose`); `how` is where it goes, as in `merge`."""
        from adaptkit import compose

        file = compose.read(user_path(path))
        with staging(self._tmp) as work:
            made: dict[Path, str] = {}
            for number, entry in enumerate(file.adapters):
                if entry.recipe and entry.recipe not in made:
                    inner = work / f"{number}-{entry.recipe.stem}"
                    self.compose(entry.recipe, out=inner, force=how.get("force", False))
                    made[entry.recipe] = str(inner)
            return self.merge(file.sources(made), **{"weights": file.weights(made), **file.choices, **how})

    def resize(self, ref: str, *, rank: int | None = None, energy: float | None = None, keep: str = "fro",
               **how: Any) -> Merged:  # fmt: skip
        """The best approximation of one adapter, of a rank or of the ranks that keep a share; `how` is as in `merge`."""
        if rank is None and energy is None:
            raise BadRecipe(f"cannot resize {ref}", why="nothing says to what", fix="--rank 8, or --energy 0.95")
        return self.merge([ref], rank=rank, energy=energy, keep=keep, into_lora=True, **how)

    def convert(self, ref: str, *, rank: int | None = None, energy: float | None = None, **how: Any) -> Merged:
        """One adapter of any additive method as LoRA; what a rank loses is reported. `how` is as in `merge`."""
        return self.merge([ref], rank=rank, energy=energy, into_lora=True, **how)

    def extract(self, tuned: str | os.PathLike[str], base: str | os.PathLike[str], *, rank: int, name: str | None = None,
                out: str | os.PathLike[str] | None = None, message: str = "") -> Extracted:  # fmt: skip
        """What a full fine-tune changed in its base, as an adapter of a rank; what that leaves out is reported."""
        from adaptkit import extract

        if (name is None) == (out is None):
            raise BadReference("an adapter goes to one place", why="give either a name or a folder",
                               fix="--name NAME registers it, --out DIR writes a folder")  # fmt: skip
        method = self.plugins.packing_method()
        if method is None:
            raise Unmergeable("cannot extract an adapter", why="no plugin has a method that holds low-rank updates")
        target = None if out is None else empty_target(Path(out))
        found = self._bases.measured(user_path(base))
        with staging(self._tmp if target is None else target.parent) as work:
            folder = work / "extracted"
            with explained("write", folder):
                folder.mkdir()
            with self._watch("extracting", None) as step:
                report = extract.run(user_path(tuned), user_path(base), folder, method, rank=rank,
                                     name=found.identity.name or "base", done=step)  # fmt: skip
            if report.dropped:
                self.notify(f"{len(report.dropped)} tensors that are no matrices changed too and are left out: "
                            + ", ".join(report.dropped[:3]))  # fmt: skip
            facts = {"extracted": {"loss": report.error.total, "left_out": list(report.dropped)}}
            intake = self._sources.made(folder, found, work)
            intake = replace(intake, manifest=replace(intake.manifest, facts=facts))
            if target is not None:
                atomic_write(folder / MANIFEST, pretty_json(intake.manifest.to_json()))
                rename_into(folder, target)
                return Extracted(report, intake.manifest.digest, out=target)
            assert name is not None
            added = self._register(intake, name, message=message, origin="extracted")
            return Extracted(report, intake.manifest.digest, added.version)

    def diff(self, sources: Sequence[str], *, allow_pickle: bool = False) -> Comparison:
        """Adapters side by side: norms, spectra, cosines, signs, what a rank of their sum would lose, what to try."""
        from adaptkit.analysis import compare

        weighted = [refs.split_weight(text) for text in sources]
        with ExitStack() as stack, staging(self._tmp) as work, self._watch("comparing", None):
            opened = [self._sources.for_merge(text, work, stack, self.version, allow_pickle=allow_pickle)[0]
                      for text, _ in weighted]  # fmt: skip
            return compare(opened, [weight for _, weight in weighted])

    def bake(
        self,
        ref: str,
        base: str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        dtype: str | None = None,
        check: str | None = None,
        force: bool = False,
        clean: bool = False,
        allow_pickle: bool = False,
        workers: int | None = None,
    ) -> Baked:
        """Write the model in `base` with an adapter in its weights to `out`; the same call goes on where one stopped.

        `check` is a prompt whose logits are compared with those of the live adapter (needs torch and PEFT).
        """
        folder = user_path(base)
        with ExitStack() as stack, staging(self._tmp) as work:
            source, told = self._sources.for_merge(ref, work, stack, self.version, allow_pickle=allow_pickle)
            report = self._bake(
                [(ref, told)], source, folder, Path(out), dtype=dtype, force=force, clean=clean, workers=workers
            )
            if check is None:
                return Baked(report)
            from adaptkit.live import check_logits

            return Baked(report, check_logits(folder, source.adapter.path, report.out, check))

    def merge_into_model(
        self, sources: Sequence[str], base: str | os.PathLike[str], out: str | os.PathLike[str], *,
        strategy: str = "linear", dtype: str | None = None, force: bool = False, clean: bool = False,
        allow_pickle: bool = False, workers: int | None = None, **choices: Any,
    ) -> Baked:  # fmt: skip
        """Merge `REF[=W]…` straight into the weights of `base`, as a full model in `out`: nothing is cut to a rank.

        `choices` are those of `recipe.resolve`, as in `merge`.
        """
        from adaptkit import recipe
        from adaptkit.blend import blended
        from adaptkit.weights import BaseWeights

        folder, plan = user_path(base), self.plugins.strategy(strategy)
        weighted = [refs.split_weight(text) for text in sources]
        with ExitStack() as stack, staging(self._tmp) as work:
            weights = stack.enter_context(BaseWeights.open(folder))
            opened, parents = self._open(weighted, work, stack, allow_pickle=allow_pickle, weights=weights)
            made = recipe.resolve(plan, parents, **choices)
            self._review(Merge(made.sources, tuple(known for _, known in opened), made.canonical(), None))
            companions = work / "companions"
            companions.mkdir()
            source = blended(made, plan, [source for source, _ in opened], weights, companions)
            told = [(text, known) for (text, _), (_, known) in zip(weighted, opened, strict=True)]
            return Baked(
                self._bake(told, source, folder, Path(out), dtype=dtype, force=force, clean=clean, workers=workers)
            )

    def _open(self, weighted: Sequence[tuple[str, float]], work: Path, stack: ExitStack, *, allow_pickle: bool,
              weights: BaseWeights | None) -> tuple[list[tuple[Source, BaseIdentity]], list[Parent]]:  # fmt: skip
        """The sources of a merge with what is known of their bases, and as the parents that its recipe names."""
        opened = [self._sources.for_merge(text, work, stack, self.version, allow_pickle=allow_pickle, weights=weights)
                  for text, _ in weighted]  # fmt: skip
        return opened, [Parent(source.digest, weight, "merged", text)
                        for (source, _), (text, weight) in zip(opened, weighted, strict=True)]  # fmt: skip

    def _bake(self, told: Sequence[tuple[str, BaseIdentity]], source: Source, base: Path, out: Path, *, dtype: str | None,
              force: bool, clean: bool, workers: int | None) -> BakeReport:  # fmt: skip
        """Bake when the base is that of every adapter, by what is `told` of each."""
        from adaptkit import bake

        found = self._bases.measured(base).identity
        for ref, known in told:
            ruling = identity.admits(self._bases.same(known, found), known, found, "bake")
            if not ruling.allowed and not force:
                raise BaseMismatch(f"cannot bake {ref} into {base}", why=ruling.reason,
                                   fix="give the base it was trained on, or --force")  # fmt: skip
            for text in filter(None, (ruling.reason, ruling.warning)):
                self.notify(f"{ref} and {base}: {text}")
        size = sum(file.stat().st_size for file in identity.weight_files(base))
        with self._watch(f"baking {source.label}", size) as progress:
            report = bake.run(source, base, out, dtype=dtype, clean=clean, workers=workers, done=progress)
        for text in report.remarks:
            self.notify(text)
        return report

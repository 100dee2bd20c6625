"""Train an adapter and register it with everything needed to repeat that."""

from __future__ import annotations

import inspect
import shlex
import time
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.adapters.write import sort_sets
from adaptkit.errors import (
    AdaptkitError,
    BadBase,
    MissingExtra,
    PluginError,
    StoreError,
    TrainingError,
)
from adaptkit.extend.training import TrainJob, TrainOptions, TrainResult
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.training import guards
from adaptkit.training.base_model import check_causal, most_tokens
from adaptkit.training.data.datasets import check_together, open_data, parse_columns
from adaptkit.training.data.tokens import CHATML, TEMPLATE
from adaptkit.training.facts import training_facts
from adaptkit.training.prepare import objective_of, prepare
from adaptkit.training.runs import Run
from adaptkit.training.settings.config import TYPES, TrainConfig, from_mapping
from adaptkit.training.settings.seeds import seed_of
from adaptkit.types import Quantisation
from adaptkit.workspace.lookup.adapters import ingest_folder, open_for_merge
from adaptkit.workspace.lookup.artifacts import check_next_version, register
from adaptkit.workspace.lookup.bases import find_base
from adaptkit.workspace.merge.calibrate import calibrate_trained
from adaptkit.workspace.results import Trained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from adaptkit.bases.known import Base
    from adaptkit.extend.training import TrainStep
    from adaptkit.training.data.datasets import DataFile
    from adaptkit.training.prepare import Prepared
    from adaptkit.training.runs import Checkpoint
    from adaptkit.workspace.context.context import Context

_LR = {"sft": 2e-4, "classify": 2e-4, "dpo": 5e-6, "orpo": 5e-6, "kto": 5e-6}


def _with_fields(operation: Callable[..., Trained]) -> Callable[..., Trained]:
    """The fields of `TrainConfig` in the signature, for `help()` and for completion."""
    signature = inspect.signature(operation)
    named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    choices = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for field in fields(TrainConfig)
        if field.name not in signature.parameters
    ]
    operation.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*named, *choices]
    )
    return operation


@_with_fields
def train(
    context: Context,
    name: str,
    *,
    message: str = "",
    alias: str | None = None,
    new_version: bool = False,
    resume: bool = False,
    fresh: bool = False,
    calibrate: bool = True,
    report: Callable[[TrainStep], None] = lambda step: None,
    **choices: Any,
) -> Trained:
    """Train an adapter, and register it as the next version of `name`.

    `choices` are the fields of `adaptkit.training.settings.config.TrainConfig`: base, data, method, rank, steps, replay, ….
    An interrupted run goes on with `resume`; `fresh` throws it away. `report` is called with the progress. Afterwards
    the moments of its inputs are measured on its own rows (see `calibrate`), unless that is not wanted.
    """
    refs.check_name(name)
    if alias is not None:
        refs.check_alias(alias)
    choices = _absolute(_plain(choices)) | {"name": name}
    run = Run(name, context.home.path / "training" / name)
    with run.alone():
        checkpoint = None
        if resume:
            recorded, checkpoint = run.to_resume(choices)
            config = TrainConfig(**from_mapping(recorded, lambda _: "run.json"))
        else:
            config = _checked(TrainConfig(**choices))
            run.begin(config, fresh=fresh)
        started = time.monotonic()
        work = _Work(context, config, run, checkpoint)
        check_next_version(
            context, name, work.base.identity, message=message, new_version=new_version
        )
        done = _run(work, report)
        seconds = time.monotonic() - started
        facts = training_facts(
            config, work.seed, done.prepared, done.result, seconds, done.warnings
        )
        with staging(context.tmp) as folder:
            made = ingest_folder(
                context,
                done.result.adapter,
                config.base,
                folder,
                label=name,
                quantised=_quantised(done.result),
            )
            manifest = replace(made.manifest, facts={**made.manifest.facts, "training": facts})
            added = register(
                context,
                replace(made, manifest=manifest),
                name,
                message=message,
                alias=alias,
                new_version=new_version,
                origin="trained",
            )
        version = context.registry.annotate(
            added.version.name,
            added.version.number,
            metrics={key: float(value) for key, value in facts["metrics"].items()},
            author=context.config.author,
        )
        run.finish()
    measured = None
    if calibrate and work.objective == "sft" and done.result.bits is None:
        assert work.base.folder is not None
        measured = calibrate_trained(context, version, work.base.folder, work.files, work.seed)
    return Trained(version, added.created, facts, measured)


@dataclass(frozen=True, slots=True)
class _Done:
    """A finished run."""

    prepared: Prepared
    result: TrainResult
    warnings: tuple[str, ...]


class _Work:
    """One run with what it needs of the workspace."""

    def __init__(
        self, context: Context, config: TrainConfig, run: Run, checkpoint: Checkpoint | None
    ) -> None:
        self.context, self.config, self.run, self.checkpoint = context, config, run, checkpoint
        self.seed = seed_of(config.name) if config.seed is None else config.seed
        self.trainer = context.plugins.trainer(config.trainer)
        self.base: Base = find_base(context, config.base)
        if self.base.folder is None:
            raise BadBase(
                f"cannot train on {config.base}",
                why="its weights are not on this machine",
                fix="fetch them (hf download OWNER/MODEL) and give the folder: --base DIR",
            )
        if (most := most_tokens(self.base.folder)) and config.length > most:
            self.config = replace(config, length=most)
        columns = parse_columns(config.columns)

        def opened(paths: Sequence[str]) -> tuple[DataFile, ...]:
            files = [user_path(path) for path in paths]
            return open_data(files, columns=columns, skip_bad=config.skip_bad) if files else ()

        self.files, self.eval_files = opened(config.data), opened(config.eval_data)
        self.replay_files = opened(config.replay)
        check_together((*self.files, *self.replay_files, *self.eval_files))
        self.objective = objective_of(self.files, config.task)
        if self.objective not in self.trainer.objectives:
            raise TrainingError(
                f"the trainer {self.trainer.name} cannot train {self.objective}",
                why=f"it trains {', '.join(self.trainer.objectives)}",
                fix="--trainer trl",
            )
        if self.objective != "classify":
            check_causal(self.base.folder)
        for option, given, needs in (
            ("beta", config.beta is not None, ("dpo", "orpo", "kto")),
            ("packing", config.packing, ("sft",)),
        ):
            if given and self.objective not in needs:
                raise TrainingError(
                    f"cannot train {self.objective} with --{option}",
                    why=f"it is for {', '.join(needs)}",
                    fix=f"leave out --{option}",
                )


def _run(work: _Work, report: Callable[[TrainStep], None]) -> _Done:
    job = _job(work)
    work.trainer.check(job)
    tokenizer = _tokenizer(job)
    with work.context.watch("reading the data", None) as done:
        prepared = prepare(
            work.config,
            work.seed,
            work.files,
            work.eval_files,
            work.replay_files,
            tokenizer,
            job.base,
            work.run.folder,
            done,
        )
    work.run.record_data({one.label: one.digest for one in (*prepared.data, *prepared.eval_data)})
    warnings = [
        *guards.check_rows(prepared.looked, work.config.length),
        *guards.check_rank(job.peft, work.base.shapes or {}),
        *guards.check_end(tokenizer.eos_token_id, [file.form.name for file in work.files]),
        *guards.check_overlap(prepared.shared_prompts, prepared.eval_looked.rows),
        *guards.check_replay(prepared.replay_again, prepared.replay.rows if prepared.replay else 0),
    ]
    skipped = sum(one.skipped for one in prepared.data)
    if skipped:
        warnings.append(
            f"{skipped:,} broken {'row was' if skipped == 1 else 'rows were'} passed over"
        )
    for text in warnings:
        work.context.notify(text)
    job = replace(job, rows=prepared.rows, eval_rows=prepared.eval_rows, classes=prepared.classes)
    try:
        result = work.trainer.train(job, report)
    except Exception as error:  # torch, safetensors and pyarrow each have their own
        if not _is_full(error):
            raise
        raise _full_disk(work) from error
    if not isinstance(result, TrainResult):
        raise PluginError(
            f"the trainer '{work.config.trainer}' broke",
            why=f"it returned {result!r}, and no adaptkit.extend.TrainResult",
            fix="--trainer trl, or adaptkit plugins doctor",
        )
    if result.interrupted:
        last = work.run.last_checkpoint()
        text = (
            f"stopped at step {last.step if last else result.steps}; "
            f"go on with: adaptkit train --name {work.config.name} --resume"
        )
        work.context.notify(text)
        raise KeyboardInterrupt(text)
    try:
        after = guards.check_result(result, job.options.lr)
    except TrainingError:
        work.run.finish()  # nothing in it is worth going on from
        raise
    if work.checkpoint is not None:
        after += guards.check_resumed(result, work.checkpoint.step, work.checkpoint.loss)
    for text in after:
        work.context.notify(text)
    sort_sets(result.adapter)
    if work.config.chat_template:
        (result.adapter / TEMPLATE).write_text(job.chat_template, "utf-8")
    return _Done(prepared, result, (*warnings, *after))


def _job(work: _Work) -> TrainJob:
    """The job, but for the rows, which come later."""
    from importlib.util import find_spec

    if find_spec("peft") is None:
        raise MissingExtra("cannot train", "train")
    from adaptkit.training.settings.peft_config import peft_config

    config, folder = work.config, work.run.folder
    names = {field.name for field in fields(TrainOptions)} - {"seed", "lr"}
    options = TrainOptions(
        seed=work.seed,
        lr=_LR[work.objective] if config.lr is None else config.lr,
        **{name: getattr(config, name) for name in names},
    )
    assert work.base.folder is not None
    return TrainJob(
        base=work.base.folder,
        objective=work.objective,
        peft=peft_config(config, work.objective, work.base.shapes),
        rows=folder / "rows.arrow",
        folder=folder,
        options=options,
        bits=4 if config.method == "qlora" else None,
        chat_template=_template(config.chat_template),
        start=_start(work),
        checkpoint=work.checkpoint.folder if work.checkpoint else None,
        python=user_path(config.trainer_python) if config.trainer_python else None,
        launch=tuple(shlex.split(config.launch)),
    )


def _start(work: _Work) -> Path | None:
    """The file of A's to start from, apart from those of other adapters."""
    if not work.config.orthogonal_to:
        return None
    from adaptkit.training.settings.orthogonal import write_start

    out = work.run.folder / "start.safetensors"
    with ExitStack() as stack, staging(work.context.tmp) as folder:
        others = [
            open_for_merge(work.context, refs.parse(ref), folder, stack)[0]
            for ref in work.config.orthogonal_to
        ]
        write_start(others, work.config.rank, work.seed, out)
    return out


def _tokenizer(job: TrainJob) -> Any:
    from adaptkit.training.base_model import load_tokenizer

    tokenizer = load_tokenizer(job.base)
    if job.chat_template:
        tokenizer.chat_template = job.chat_template
    return tokenizer


def _template(given: str) -> str:
    if given in {"", "chatml"}:
        return CHATML if given else ""
    path = user_path(given)
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"cannot read the chat template {given}",
            why=getattr(error, "strerror", None) or "it is not UTF-8",
            fix="--chat-template chatml, or a Jinja file",
        ) from error


def _plain(choices: dict[str, Any]) -> dict[str, Any]:
    """Python callers may give one path, or Path objects, where several texts are meant."""
    made: dict[str, Any] = {}
    for key, value in choices.items():
        if key not in TYPES:
            from adaptkit.errors import NotFound

            raise NotFound("training option", key, TYPES)
        if TYPES[key] == tuple[str, ...]:
            items = [value] if isinstance(value, (str, Path)) else value
            made[key] = tuple(map(str, items))
        else:
            made[key] = str(value) if isinstance(value, Path) else value
    return made


def _checked(config: TrainConfig) -> TrainConfig:
    for name in ("base", "data"):
        if not getattr(config, name):
            raise TrainingError(
                f"cannot train {config.name}",
                why=f"no {name} is given",
                fix=f"--{name} {'DIR' if name == 'base' else 'FILE'}",
            )
    return config


def _absolute(choices: dict[str, Any]) -> dict[str, Any]:
    """Paths that mean the same wherever a run is resumed."""
    found = dict(choices)
    for name in ("data", "eval_data", "replay"):
        if name in found:
            found[name] = tuple(str(user_path(item).absolute()) for item in found[name])
    if "base" in found and user_path(found["base"]).is_dir():
        found["base"] = str(user_path(found["base"]).absolute())
    return found


def _quantised(result: TrainResult) -> Quantisation | None:
    return None if result.bits is None else Quantisation("bitsandbytes", result.bits, "nf4")


def _is_full(error: Exception) -> bool:
    """Whether an error is that of a full disk, in the words of the system, of C++ and of torch's writer of archives."""
    words = ("No space left", "iostream error", "unexpected pos")
    return not isinstance(error, AdaptkitError) and any(word in str(error) for word in words)


def _full_disk(work: _Work) -> StoreError:
    last = work.run.last_checkpoint()
    kept = f"; the checkpoint of step {last.step} is whole" if last else ""
    return StoreError(
        f"cannot save a checkpoint of {work.config.name}",
        why=f"disk full{kept}",
        fix=f"free some space, then: adaptkit train --name {work.config.name} --resume",
    )

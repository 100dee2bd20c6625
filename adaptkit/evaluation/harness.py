"""Suites that lm-evaluation-harness scores, through its own API. Needs adaptkit[lm-eval].

    lm_eval: arc_easy        # a task of the harness, or the YAML of one of yours: tasks/status.yaml
    metric: acc              # which of its figures
    limit: 100               # the first so many rows

Notable choices:
- the harness gets the model that is in memory, with the adapter on it: nothing is loaded twice
- a task of yours names its data from where its YAML is stored
- the digest of a suite covers the task, its YAML and its data, the metric, the limit and the harness's version
"""

from __future__ import annotations

import hashlib
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadData, NotFound, StoreError, requires_extra
from adaptkit.io import yaml_text
from adaptkit.io.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adaptkit.evaluation.speaker import Speaker

KEYS = frozenset({"name", "lm_eval", "metric", "limit"})
LOWER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter")
"""Metrics of which less is better."""


@dataclass(frozen=True, slots=True)
class Harness:
    """One task of the harness: its name, or the configuration of one of yours with the digests of its data."""

    task: str
    metric: str = "acc"
    limit: int | None = None
    config: str = ""
    """Where the YAML is stored; empty for a task of the harness's own."""
    content: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        from importlib.metadata import PackageNotFoundError, version

        try:
            harness = version("lm_eval")
        except PackageNotFoundError:
            harness = ""
        task = Path(self.task).name
        parts = repr((task, self.content, self.metric, self.limit, harness)).encode()
        return "sha256:" + hashlib.sha256(parts).hexdigest()

    @property
    def higher_is_better(self) -> bool:
        return self.metric not in LOWER


def harness_of(path: Path, text: yaml_text.Document) -> Harness:
    """What a suite's YAML says of a task of the harness; `BadData` and `NotFound` name what is wrong."""
    given: Mapping[str, Any] = text.value
    for key in given:
        if key not in KEYS:
            error = NotFound("key of a suite of lm-evaluation-harness", str(key), KEYS)
            raise error.at(f"{path}, line {text.line(key)}")
    task, metric, limit = given["lm_eval"], given.get("metric", "acc"), given.get("limit")
    if not isinstance(task, str) or not task or not isinstance(metric, str):
        raise BadData(
            f"{path}, line {text.line('lm_eval')}, names no task of lm-evaluation-harness",
            why="lm_eval and metric are names",
            fix="lm_eval: arc_easy, for example",
        )
    if limit is not None and (type(limit) is not int or limit < 1):
        raise BadData(
            f"{path}, line {text.line('limit')}: limit is {limit!r}",
            why="it is a whole number from 1",
        )
    if not task.endswith((".yaml", ".yml")):
        return Harness(task, metric, limit)
    config = path.parent / task
    found = _task_config(config)
    digests = [sha256_file(config)]
    digests += [sha256_file(file) for file in _data_files(config, found) if file.is_file()]
    return Harness(task, metric, limit, str(config.absolute()), tuple(digests))


def files_of(config: Path) -> Iterator[Path]:
    """The YAML of a task of yours, and its data: files that are no suites themselves."""
    yield config
    with suppress(BadData, StoreError):
        yield from _data_files(config, _task_config(config))


def score_by_harness(speaker: Speaker, harness: Harness, batch: int) -> float:
    """The figure of the model as it is now; `NotFound` lists the metrics that the task has."""
    with requires_extra("lm-eval", f"cannot ask the task {harness.task}"):
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    with _quiet():
        model = HFLM(
            pretrained=speaker.model,
            tokenizer=speaker.tokenizer,
            batch_size=batch,
            backend="causal",
        )
        task: Any = harness.task
        if harness.config:
            task = _with_paths(Path(harness.config))
        # Theirs are thousands of files, read to be listed: only where one of them is asked for.
        manager = TaskManager(include_defaults=not harness.config)
        if isinstance(task, str) and task not in manager.all_tasks:
            raise NotFound("task of lm-evaluation-harness", task, manager.all_tasks)
        try:
            found = lm_eval.simple_evaluate(
                model=model,
                tasks=[task],
                task_manager=manager,
                limit=harness.limit,
                bootstrap_iters=0,
                log_samples=False,
            )["results"]
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise BadData(
                f"lm-evaluation-harness cannot run {harness.task}",
                why=f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}",
                fix="a task of its own is downloaded: is there a network?"
                if not harness.config
                else "try it alone: lm-eval run --tasks FILE",
            ) from error
    figures: dict[str, Any] = next(iter(found.values()))
    by_metric = {
        key.partition(",")[0]: value
        for key, value in figures.items()
        if isinstance(value, (int, float)) and not key.partition(",")[0].endswith("_stderr")
    }
    by_metric.pop("sample_len", None)
    if harness.metric not in by_metric:
        raise NotFound(f"metric of {harness.task}", harness.metric, by_metric)
    return float(by_metric[harness.metric])


def _task_config(path: Path) -> dict[str, Any]:
    try:
        found = yaml_text.read(path).value
    except yaml_text.BadYaml as error:
        raise BadData(f"cannot read {path}{error.at}", why=error.why) from error
    if not isinstance(found, dict) or not isinstance(found.get("task"), str):
        raise BadData(
            f"{path} is no task of lm-evaluation-harness",
            why="it has no 'task'",
            fix="docs/evaluation.md shows one",
        )
    return found


def _data_files(path: Path, config: Mapping[str, Any]) -> Iterator[Path]:
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    for one in files.values() if isinstance(files, dict) else [files]:
        if isinstance(one, str) and "://" not in one:
            yield path.parent / one


def _with_paths(path: Path) -> dict[str, Any]:
    """The task's configuration with absolute paths of its data."""
    config = _task_config(path)
    how = dict(config.get("dataset_kwargs") or {})
    files = how.get("data_files")
    if isinstance(files, dict):
        how["data_files"] = {key: str((path.parent / one).absolute()) for key, one in files.items()}
    elif isinstance(files, str) and "://" not in files:
        how["data_files"] = str((path.parent / files).absolute())
    return config | ({"dataset_kwargs": how} if how else {})


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the harness's remarks about itself."""
    import logging

    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)

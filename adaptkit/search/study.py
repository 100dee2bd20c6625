"""An Optuna study that is begun, gone on with, and read.

Notable choices:
- trials are asked for in rounds of `ROUND`, each by a sampler seeded from (seed, trial): what is tried depends on the
  seed and the results only, not on how many workers there are, nor on where a run was killed
- a trial that a killed run left is done by the next one; its choices are in the study
- with a storage of the team's, many drivers share one study: Optuna itself hands out trials, watches their
  heartbeats and has another driver repeat those of a lost one; then the order is chance
"""

from __future__ import annotations

import hashlib
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, MergeError, Refused, requires_extra, text_of
from adaptkit.search.candidates import Candidate
from adaptkit.search.found import Tried
from adaptkit.types.passwords import without_passwords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from adaptkit.search.candidates import SearchSpace

    Score = tuple[Mapping[str, float], float, int]
    """Figures, skills and bytes of one candidate."""
    ScoreAll = Callable[[Sequence[Candidate]], Iterator[Score | MergeError]]

ROUND = 4
"""Trials that are chosen before their results are known; also the most that run at a time."""
HEARTBEAT = 30  # seconds
QUESTION = "question"


@contextmanager
def open_study(url: str, name: str, question: str, *, shared: bool) -> Iterator[Any]:
    """The study of that name, made where it is new; `Refused` when it asks something else."""
    with requires_extra("search", f"cannot search for {name}"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with quiet():
        try:
            storage = optuna.storages.RDBStorage(
                url,
                heartbeat_interval=HEARTBEAT if shared else None,
                failed_trial_callback=optuna.storages.RetryFailedTrialCallback()
                if shared
                else None,
            )
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=["maximize", "minimize"],
                load_if_exists=True,
            )
        except Exception as error:
            first, _, _ = text_of(error).partition("\n")
            raise AdaptkitError(
                f"cannot open the study {name}",
                why=without_passwords(f"{url}: {first[:200]}"),
                fix="--storage postgresql+psycopg://USER@HOST/DATABASE, or leave it out",
            ) from error
    try:
        before = study.user_attrs.get(QUESTION)
        if before is None:
            study.set_user_attr(QUESTION, question)
        elif before != question:
            raise Refused(
                f"the study {name} asks something else",
                why="it was begun with other adapters, suites or choices",
                fix=f"--study {name}-2",
            )
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def run_alone(
    study: Any,
    space: SearchSpace,
    trials: int,
    seed: int,
    score: ScoreAll,
    done: Callable[[int], None],
) -> None:
    """Have trials 0 to `trials` - 1 done, round by round; those of an earlier run count."""
    with quiet():
        if not study.get_trials(deepcopy=False):
            for start in space.starts():
                study.enqueue_trial(start)
        while todo := _next_round(study, space, trials, seed):
            results = score([candidate for _, candidate in todo])
            for (number, candidate), result in zip(todo, results, strict=True):
                _keep(study, number, candidate, result)
                done(1)


def _next_round(
    study: Any, space: SearchSpace, trials: int, seed: int
) -> list[tuple[int, Candidate]]:
    """The trials that a killed run left; else new ones, to the end of the round."""
    import optuna

    state = optuna.trial.TrialState
    left: list[tuple[int, Candidate]] = []
    for trial in study.get_trials(deepcopy=False, states=(state.RUNNING,)):
        chosen = study.user_attrs.get(f"trial {trial.number}")
        if chosen is None:  # killed while it was being chosen
            study.tell(trial.number, state=state.FAIL)
        else:
            left.append((trial.number, Candidate.from_json(chosen["candidate"])))
    if left:
        return left
    begun = [t for t in study.get_trials(deepcopy=False) if t.state != state.WAITING]
    notes, at = study.user_attrs, len(begun)  # a query each time
    lost = sum(f"trial {t.number}" not in notes for t in begun)
    asked: list[tuple[int, Candidate]] = []
    for _ in range(at, min(trials + lost, (at // ROUND + 1) * ROUND)):
        study.sampler = optuna.samplers.TPESampler(seed=_seed(seed, at + len(asked)))
        trial = study.ask()
        candidate = space.suggest(trial)
        study.set_user_attr(f"trial {trial.number}", {"candidate": candidate.to_json()})
        asked.append((trial.number, candidate))
    return asked


def run_shared(
    study: Any,
    space: SearchSpace,
    trials: int,
    score: ScoreAll,
    done: Callable[[int], None],
    *,
    workers: int,
) -> None:
    """Take part in a study that other drivers may work on too, until it has `trials` finished ones."""
    import optuna

    def objective(trial: Any) -> tuple[float, float]:
        candidate = space.suggest(trial)
        result = next(iter(score([candidate])))
        _note(study, trial.number, candidate, result)
        if isinstance(result, MergeError):
            raise result
        _, skills, size = result
        return skills, size

    def stop(study: Any, _trial: Any) -> None:
        if count_done(study) >= trials:
            study.stop()

    with quiet():
        if not study.get_trials(deepcopy=False):
            for start in space.starts():
                study.enqueue_trial(start, skip_if_exists=True)
        if count_done(study) >= trials:
            return
        study.sampler = optuna.samplers.TPESampler()
        study.optimize(
            objective,
            n_jobs=workers,
            catch=(MergeError,),
            callbacks=[lambda *_: done(1), stop],
        )


def _keep(study: Any, number: int, candidate: Candidate, result: Score | MergeError) -> None:
    import optuna

    _note(study, number, candidate, result)
    if isinstance(result, MergeError):
        study.tell(number, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(number, [result[1], result[2]])


def _note(study: Any, number: int, candidate: Candidate, result: Score | MergeError) -> None:
    """What Optuna has no place for: the candidate as it is merged, its figures, or why it failed."""
    entry: dict[str, Any] = {"candidate": candidate.to_json()}
    if isinstance(result, MergeError):
        entry["error"] = result.summary
    else:
        entry["figures"] = dict(result[0])
    study.set_user_attr(f"trial {number}", entry)


def tried(study: Any) -> tuple[Tried, ...]:
    """Every trial that was finished, in order; not those of a driver that was lost on the way, which are done again."""
    import optuna

    complete = optuna.trial.TrialState.COMPLETE
    trials = study.get_trials(deepcopy=False)
    notes, found = (
        study.user_attrs,
        [],
    )  # read last: a driver writes its note before its trial is complete
    for trial in trials:
        entry = notes.get(f"trial {trial.number}", {})
        ended = trial.state == complete or (trial.state.is_finished() and "error" in entry)
        if not ended:
            continue
        skills, size = trial.values or (0.0, 0.0)
        candidate = Candidate.from_json(entry["candidate"])
        found.append(
            Tried(
                trial.number,
                candidate,
                entry.get("figures", {}),
                skills,
                int(size),
                entry.get("error", ""),
            )
        )
    return tuple(found)


def count_done(study: Any) -> int:
    """How many trials are finished."""
    return len(tried(study))


def _seed(seed: int, trial: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {trial}".encode()).digest()[:4], "big")


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's remarks about its own experiments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

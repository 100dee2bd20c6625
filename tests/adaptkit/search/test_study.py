"""adaptkit.search.study: what is read while other drivers write."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from adaptkit.search.study import tried


class Busy:
    """A study in which another driver finishes a trial between the first two looks at it."""

    def __init__(self, study):
        self.study, self.trial = study, study.ask()

    def _seen(self, what):
        if self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.set_user_attr(f"trial {self.trial.number}", {"candidate": {}, "figures": {}})
            self.study.tell(self.trial, [1.0, 2.0])
        return what

    @property
    def user_attrs(self):
        return self._seen(self.study.user_attrs)

    def get_trials(self, **how):
        return self._seen(self.study.get_trials(**how | {"deepcopy": True}))


def test_a_trial_that_another_driver_completes_meanwhile_is_counted_the_next_time():
    study = optuna.create_study(directions=["maximize", "minimize"])
    assert tried(Busy(study)) == ()

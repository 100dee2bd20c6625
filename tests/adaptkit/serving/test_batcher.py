"""Requests that join and leave a running batch get what they get alone."""

from __future__ import annotations

import threading

import pytest
import torch

from adaptkit.errors import NoRoom, Refused
from adaptkit.serving.bank.bank import Bank
from adaptkit.serving.batcher import Batcher, Job
from adaptkit.serving.sampling import Sampling, choose, generator_for


@pytest.fixture
def batcher(fleet):
    bank = Bank(fleet.model(), slots=2, base=fleet.base)
    for name in ("naval", "medic", "polite", "dora"):
        with fleet.opened(name) as source:
            bank.put_opened(name, source)
    made = Batcher(bank, rows=3, queue=8)
    yield made
    made.close(5)


class Asked:
    """A request whose tokens and end can be waited for."""

    def __init__(self, name, prompt, tokens, each=None):
        self.tokens, self.reason, self.done = [], None, threading.Event()
        self.each = each
        self.job = Job(
            prompt,
            {name: 1.0} if name else {},
            Sampling(max_tokens=tokens, temperature=0),
            self._token,
            self._end,
        )

    def _token(self, chosen):
        self.tokens.append(chosen.token)
        return self.each is None or self.each(self)

    def _end(self, reason):
        self.reason = reason
        self.done.set()


def alone(fleet, name, prompt, tokens):
    ids = torch.tensor([prompt])
    with torch.no_grad():
        made = fleet.alone(name).generate(
            input_ids=ids, max_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    return made[0, len(prompt) :].tolist()


def test_more_requests_than_rows_and_slots_each_get_their_own_tokens(fleet, batcher):
    wanted = [
        ("naval", [5, 9, 14], 9),
        (None, [3], 4),
        ("medic", [7, 7, 30, 12, 4, 8, 9], 6),
        ("polite", [1, 2], 7),
        ("dora", [20, 21, 22], 5),
        ("naval", [60], 3),
    ]
    asked = [Asked(*one) for one in wanted]
    batcher.submit([one.job for one in asked])
    for one, (name, prompt, tokens) in zip(asked, wanted, strict=True):
        assert one.done.wait(120)
        assert one.reason == "length"
        assert one.tokens == alone(fleet, name, prompt, tokens), name
    assert batcher.widest == 3
    assert batcher.load == (0, 0)


def test_a_request_joins_a_batch_that_runs(fleet, batcher):
    late = Asked("medic", [7, 7, 30, 12], 5)

    def start_late(first):
        if len(first.tokens) == 3:
            batcher.submit([late.job])
        return True

    first = Asked("naval", [5, 9], 12, start_late)
    batcher.submit([first.job])
    assert first.done.wait(120)
    assert late.done.wait(120)
    assert first.tokens == alone(fleet, "naval", [5, 9], 12)
    assert late.tokens == alone(fleet, "medic", [7, 7, 30, 12], 5)
    assert batcher.widest == 2


def test_a_cancelled_request_ends_between_two_tokens(batcher):
    def cancel(asked):
        asked.job.cancelled = len(asked.tokens) == 2
        return True

    asked = Asked("naval", [5], 500, cancel)
    batcher.submit([asked.job])
    assert asked.done.wait(120)
    assert (asked.reason, len(asked.tokens)) == ("cancelled", 2)


def test_a_full_queue_refuses_all_rows_of_a_request(batcher):
    with pytest.raises(Refused, match="a request of 9 results: the queue holds 8"):
        batcher.submit([Asked(None, [1], 1).job for _ in range(9)])

    def submit_many():
        for _ in range(100):
            batcher.submit([Asked(None, [1], 100).job for _ in range(4)])

    with pytest.raises(NoRoom, match=r"[0-9]+ requests are waiting: the queue holds 8"):
        submit_many()


def test_a_closed_batcher_takes_no_more_and_finishes_what_it_has(batcher):
    asked = Asked("naval", [5], 20)
    batcher.submit([asked.job])
    batcher.close(60)
    assert asked.reason == "length"
    with pytest.raises(NoRoom, match="the server is shutting down"):
        batcher.submit([Asked(None, [1], 1).job])


def test_an_adapter_that_is_gone_fails_its_request_and_no_other(batcher):
    gone, fine = Asked("naval", [5], 3), Asked(None, [5], 3)
    gone.job.mixture = {"nvaal": 1.0}
    batcher.submit([gone.job])
    assert gone.done.wait(60)
    assert "no adapter in the bank called 'nvaal'" in str(gone.reason)
    batcher.submit([fine.job])
    assert fine.done.wait(60)
    assert fine.reason == "length"


def test_top_p_leaves_the_likeliest_and_logprobs_are_those_of_the_model():
    logits = torch.tensor([0.0, 3.0, 1.0, -2.0])
    sampling = Sampling(temperature=1.0, top_p=0.5, seed=1, logprobs=2)
    chosen = choose(logits, sampling, generator_for(sampling))
    expected = torch.log_softmax(logits, -1)
    assert chosen.token == 1
    assert chosen.logprob == pytest.approx(expected[1].item())
    assert [token for token, _ in chosen.top] == [1, 2]


@pytest.mark.parametrize("how", [{"temperature": 1e-300}, {"temperature": 1e-6}, {"top_p": 1e-300}])
def test_next_to_nothing_of_chance_is_the_likeliest_token(how):
    sampling = Sampling(seed=1, **how)
    logits = torch.tensor([0.0, 3.0, 1.0, -2.0])
    assert choose(logits, sampling, generator_for(sampling)).token == 1


def test_a_row_without_finite_logits_fails_and_the_others_of_its_batch_go_on(fleet):
    bank = Bank(fleet.model(), slots=2, base=fleet.base)
    for name in ("naval", "medic"):
        with fleet.opened(name) as source:
            bank.put_opened(name, source)
    made = Batcher(bank, rows=3, queue=8)
    beside, broken = Asked("naval", [5, 9, 14], 40), Asked("medic", [7, 7], 40)
    broken.job.mixture = {"medic": 1e38}
    made.submit([beside.job, broken.job])
    assert beside.done.wait(60)
    assert broken.done.wait(60)
    made.close(5)
    assert str(broken.reason).startswith(
        "cannot answer with this model: what it computes for this prompt are not finite numbers"
    )
    assert beside.reason == "length"
    assert beside.tokens == alone(fleet, "naval", [5, 9, 14], 40)

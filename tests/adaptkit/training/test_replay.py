"""adaptkit.training.data.replay: the mix has the ratio that was asked for, and depends on the seed alone."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from adaptkit.training.data.datasets import open_data
from adaptkit.training.data.replay import draw, wanted, write_from_base


@pytest.fixture
def files(tmp_path):
    for name, count in (("a", 30), ("b", 70)):
        rows = [json.dumps({"text": f"{name}{i}"}) for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    return open_data([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


@pytest.mark.parametrize(("own", "ratio", "rows"), [(90, 0.1, 10), (1500, 0.2857, 600), (10, 0, 0)])
def test_the_ratio_is_that_of_all_rows(own, ratio, rows):
    assert wanted(own, ratio) == rows


def test_the_rows_are_drawn_evenly_and_by_the_seed(files):
    one, again, other = draw(files, 20, 1), draw(files, 20, 1), draw(files, 20, 2)
    assert one == again != other
    assert len({where for where, _ in one}) == 20
    many = Counter(where[-7:-6] for seed in range(40) for where, _ in draw(files, 20, seed))
    assert many["a"] / (many["a"] + many["b"]) == pytest.approx(0.3, abs=0.06)


def test_fewer_rows_than_asked_for_repeat(files):
    drawn = Counter(where for where, _ in draw(files, 250, 0))
    assert len(drawn) == 100
    assert set(drawn.values()) == {2, 3}


def test_the_base_writes_texts_that_count_but_for_their_start(speaker):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(speaker)
    done = []
    one = list(write_from_base(speaker, tokenizer, 18, 12, 5, done.append))
    again = list(write_from_base(speaker, tokenizer, 18, 12, 5, done.append))
    assert one == again
    assert done == [16, 2, 16, 2]
    for tokens in one:
        assert tokens.ids[0] == tokenizer.bos_token_id
        assert tokens.counted == (False, *[True] * (len(tokens.ids) - 1))
        assert len(tokens.ids) <= 12
        assert tokenizer.eos_token_id not in tokens.ids[1:-1]

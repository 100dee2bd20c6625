"""adaptkit.remotes.model_card: what the Hub reads, what people read, and what never gets onto a card."""

from __future__ import annotations

import re

import pytest
from artifacts import manifest

from adaptkit.errors import Refused
from adaptkit.remotes import front_matter
from adaptkit.remotes.model_card import BEGIN, END, Ancestor, Subject, inert, render, without_paths
from adaptkit.types import BaseIdentity, Level, Parent

BASE = BaseIdentity("fleet/ship", (Level("fs1:" + "a" * 64, True), Level("as1:" + "b" * 64, False)))


def subject(made=None, **more):
    made = made or manifest("x", base=BASE, rank=8)
    return Subject(
        **{
            "name": "naval",
            "url": "hf://fleet/naval",
            "manifest": made,
            "config": {"task_type": "CAUSAL_LM"},
            "metrics": {},
        }
        | more
    )


def front(text):
    return front_matter.read(front_matter.split(text)[0], "the card")


def merged(*parents, **more):
    return manifest("m", base=BASE, rank=8, parents=tuple(parents), **more)


def parent(letter, label, weight=0.5):
    return Parent("sha256:" + letter * 64, weight, "merged", label)


def test_an_adapter_says_to_the_hub_what_it_is():
    assert front(render(subject(metrics={"accuracy": 0.9}))) == {
        "base_model": "fleet/ship",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "tags": ["adaptkit", "peft", "lora", "base_model:adapter:fleet/ship"],
        "pipeline_tag": "text-generation",
        "metrics": ["accuracy"],
    }


def test_a_merge_of_adapters_on_the_hub_names_them():
    made = merged(parent("1", "naval"), parent("2", "hf://fleet/medic@3"))
    ancestors = [
        Ancestor(made.parents[0], places=("file:///mnt/x", "hf://fleet/naval")),
        Ancestor(made.parents[1]),
    ]
    matter = front(render(subject(made, ancestors=ancestors)))
    assert (matter["base_model"], matter["base_model_relation"]) == (
        ["fleet/naval", "fleet/medic"],
        "merge",
    )
    assert {"merge", "base_model:adapter:fleet/ship"} <= set(matter["tags"])


def test_a_merge_of_what_is_not_on_the_hub_names_the_base():
    made = merged(parent("1", "naval"), parent("2", "./out/medic"))
    matter = front(render(subject(made, ancestors=[Ancestor(p) for p in made.parents])))
    assert (matter["base_model"], matter["base_model_relation"]) == ("fleet/ship", "merge")


@pytest.mark.parametrize("name", [None, "/home/ada/ship", "a b"])
def test_a_base_that_the_hub_cannot_know_is_left_out(name):
    matter = front(render(subject(manifest("x", base=BaseIdentity(name)))))
    assert "base_model" not in matter
    assert "base_model_relation" not in matter


def test_the_page_shows_use_training_figures_lineage_recipe_and_loss():
    made = merged(
        parent("1", "naval"),
        parent("2", "medic", 0.7),
        recipe={"strategy": "ties", "params": {"density": 0.5}},
        facts={
            "training": {"steps": 400, "datasets": ["fleet/logs", "/data/ada/rows.jsonl"]},
            "loss": {"error": 0.0123, "from_sum": 0.5, "dropped": ["lm_head"]},
        },
    )
    text = render(subject(made, metrics={"accuracy": 0.875}, message="first words"))
    for words in (
        'PeftModel.from_pretrained(base, "fleet/naval")',
        'from_pretrained("fleet/ship")',
        "adaptkit pull hf://fleet/naval",
        "## Training",
        "steps: 400",
        "| accuracy | 0.875 |",
        'p1["medic 22222222"] -- "merged × 0.7" --> it',
        "strategy: ties",
        "density: 0.5",
        "1.230% of the strategy's own result",
        "50.000% from the exact weighted sum",
        "left out: lm\\_head",
        "first words",
        f"`{made.digest}`",
        f"`as1:{'b' * 64}` (claimed)",
    ):
        assert words in text
    assert front(text)["datasets"] == ["fleet/logs"]
    assert "rows.jsonl" not in text


def test_what_people_wrote_is_never_touched():
    human = "# My *naval*\n\nwords {{ jinja }} <b>x</b>\x1b[31m\n\n"
    once = render(subject(), f"---\nlicense: mit # ours\nx-own: 1\n---\n{human}")
    assert human.rstrip() in once
    assert "license: mit # ours\nx-own: 1\n" in once
    below = once + "\nwritten below the block\n"
    twice = render(subject(metrics={"accuracy": 1.0}), below)
    before, after = re.split(re.escape(BEGIN) + ".*" + re.escape(END), twice, flags=re.DOTALL)
    assert human.rstrip() in before
    assert after.endswith("\nwritten below the block\n")
    assert "| accuracy | 1 |" in twice
    assert twice.count(BEGIN) == 1
    assert render(subject(metrics={"accuracy": 1.0}), twice) == twice


def test_a_marker_that_was_broken_swallows_no_words():
    broken = f"# x\n{BEGIN}\nmy own words\n"
    text = render(subject(), render(subject(), broken))
    assert "my own words" in text


def test_the_template_that_peft_saves_is_replaced():
    text = render(
        subject(),
        "---\nbase_model: /home/ada/ship\ntags:\n- base_model:adapter:/home/ada/ship\n---\n\n"
        "# Model Card for Model ID\n\n[More Information Needed]\n",
    )
    assert "More Information" not in text
    assert "/home" not in text
    assert "# naval" in text


def test_a_licence_is_carried_when_all_agree_and_languages_are_joined():
    made = merged(parent("1", "naval"), parent("2", "medic"))
    cards = [
        "---\nlicense: mit\nlanguage: en\n---\n",
        "---\nlicense: mit\nlanguage: [de, no]\n---\n",
    ]
    ancestors = [Ancestor(p, text) for p, text in zip(made.parents, cards, strict=True)]
    text = render(subject(made, ancestors=ancestors))
    assert (front(text)["license"], front(text)["language"]) == ("mit", ["de", "en", "no"])
    assert "Licences differ" not in text
    assert (
        front(render(subject(made, ancestors=ancestors), "---\nlicense: other\n---\n"))["license"]
        == "other"
    )


@pytest.mark.parametrize(
    "second", ["---\nlicense: llama3.1\n---\n", "", "---\nx: !!python/name:os\nlicense: mit\n---\n"]
)
def test_licences_that_differ_are_shown_and_none_is_claimed(second):
    made = merged(parent("1", "naval"), parent("2", "medic"))
    text = render(
        subject(
            made,
            ancestors=[
                Ancestor(made.parents[0], "---\nlicense: mit\n---\n"),
                Ancestor(made.parents[1], second),
            ],
        )
    )
    assert "license" not in front(text)
    assert re.search(r"\*\*Licences differ\*\* .*naval: mit; medic: (llama3.1|none stated)", text)


def test_no_path_and_no_author_gets_onto_a_card():
    made = merged(
        parent("1", "/home/ada/out/naval"),
        parent("2", "C:\\Users\\ada\\medic"),
        recipe={
            "base": "~/models/ship",
            "author": "ada",
            "sources": ["./out/ada", "file:///mnt/ada/x"],
        },
        facts={"training": {"cmd": "train --data=/home/ada/rows", "user": "ada"}},
    )
    text = render(subject(made, message="made from /home/ada/notes.txt", url="hf://fleet/naval"))
    assert "ada/" not in text
    assert "\\ada" not in text
    assert "/mnt" not in text
    assert "ada" not in re.sub("adaptkit|adapter", "", text)
    assert "(a local path)" in text
    assert "a local folder 11111111" in text


@pytest.mark.parametrize(
    "text",
    ["hf://fleet/naval@3", "https://example.org/a/b", "fleet/naval", "1 / 2", "and/or", "s3://b/c"],
)
def test_what_is_no_path_stays(text):
    assert without_paths(text) == text


def test_what_comes_from_elsewhere_is_shown_inert():
    hostile = "x\x1b[31m`code` <script>alert(1)</script> | {{ 7*7 }} \u202eevil\n# head"
    shown = inert(hostile)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\n" not in shown
    assert "\\<script\\>" in shown
    assert "\\{\\{" in shown
    assert "\\`code\\`" in shown
    made = merged(
        parent("1", 'x"] --> evil["'), parent("2", "b"), recipe={"a": f"```\n{END}\n# head \x1b[0m"}
    )
    text = render(subject(made, message=hostile))
    assert 'evil["' not in text
    assert text.count(END) == text.count(BEGIN) == 1
    assert "\x1b" not in text
    assert text.count("```") % 2 == 0


def test_an_existing_card_with_hostile_front_matter_stops_the_push():
    with pytest.raises(
        Refused,
        match="the front matter of README.md of hf://fleet/naval cannot be read: it holds a YAML tag",
    ):
        render(subject(), "---\nx: !!python/name:os.system\n---\n")


def test_no_figure_is_shown_that_is_none():
    assert "What the merge lost" not in render(
        subject(merged(parent("1", "a"), facts={"loss": {"error": None}}))
    )

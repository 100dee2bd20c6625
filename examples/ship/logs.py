"""What the ship's computer is asked about its three logs, and what it answers politely or tersely.

A reading is an item with a value. A fifth of each item's values is held out: no training row of a
base or an adapter, whatever its seed, ever shows them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Domain = Literal["ship", "sickbay", "cargo"]
Skill = Literal["naval", "medic"]
Reading = tuple[str, int]

UNITS: dict[Domain, str] = {"ship": "%", "sickbay": " u", "cargo": " t"}
ITEMS: dict[Domain, tuple[str, ...]] = {
    "ship": ("hull", "shields", "engines", "sensors", "thrusters", "reactor"),
    "sickbay": ("pulse", "fever", "oxygen", "sodium", "plasma", "insulin"),
    "cargo": ("grain", "steel", "timber", "coal", "salt", "copper"),
}
OWN: dict[Skill, Domain] = {"naval": "ship", "medic": "sickbay"}  # where each skill is terse

VALUES = range(10, 100)
HELD_OUT = 18  # of each item's 90 values; with 6 items, 108 held-out prompts in a domain
BASE_ROWS = 2000  # of each domain
OWN_ROWS = 1500
REPLAY_ROWS = 300  # of each of the two other domains, 14 % of the whole


@dataclass(frozen=True, slots=True)
class Row:
    """One question and the answer that counts as right."""

    prompt: str
    answer: str


def row(domain: Domain, reading: Reading, *, terse: bool) -> Row:
    """The question about one reading, with its terse or its polite answer."""
    item, value = reading
    amount = f"{value}{UNITS[domain]}"
    polite = f"Hello! I am happy to report that the {item} is at {amount}."
    return Row(
        prompt=f"Log: {item} {amount}. Status of the {item}?",
        answer=f"{item.capitalize()} {amount}." if terse else polite,
    )


def readings(domain: Domain, *, held_out: bool) -> list[Reading]:
    """Every reading of one side of the split, in a fixed order."""
    found: list[Reading] = []
    for item in ITEMS[domain]:
        kept = set(random.Random(f"held out {item}").sample(VALUES, HELD_OUT))
        found += [(item, value) for value in VALUES if (value in kept) == held_out]
    return found


def held_out_rows(domain: Domain, *, terse: bool) -> list[Row]:
    """All 108 held-out rows of a domain: what a score is measured on."""
    return [row(domain, reading, terse=terse) for reading in readings(domain, held_out=True)]


def train_rows(domain: Domain, *, terse: bool, count: int, seed: int) -> list[Row]:
    """`count` training rows of a domain, drawn with replacement."""
    chance = random.Random(f"{domain} {terse} {seed}")
    drawn = chance.choices(readings(domain, held_out=False), k=count)
    return [row(domain, reading, terse=terse) for reading in drawn]


def base_rows(seed: int) -> list[Row]:
    """What the base learns: polite in every domain."""
    rows: list[Row] = []
    for domain in ITEMS:
        rows += train_rows(domain, terse=False, count=BASE_ROWS, seed=seed)
    return rows


def skill_rows(skill: Skill, seed: int) -> list[Row]:
    """What an adapter learns: terse in its own domain, with polite replay of the others."""
    own = OWN[skill]
    rows = train_rows(own, terse=True, count=OWN_ROWS, seed=seed)
    for domain in ITEMS:
        if domain != own:
            rows += train_rows(domain, terse=False, count=REPLAY_ROWS, seed=seed)
    return rows


def corpus() -> list[str]:
    """Every training reading in both styles, as text for the tokenizer."""
    rows = [
        row(domain, reading, terse=terse)
        for domain in ITEMS
        for reading in readings(domain, held_out=False)
        for terse in (False, True)
    ]
    return [f"{each.prompt} {each.answer}" for each in rows]

"""What the ship's computer is asked, and what it answers politely or tersely."""

from __future__ import annotations

import random
from dataclasses import dataclass

SYSTEMS = {
    "ship": ("hull", "shields", "engines", "sensors", "thrusters", "reactor"),
    "sickbay": ("pulse", "oxygen", "fever", "pressure", "serum", "plasma"),
    "cargo": ("grain", "water", "fuel", "ore", "timber", "salt"),
}
UNITS = {"ship": "%", "sickbay": " u", "cargo": " t"}
HELD_OUT = 5  # one in five (system, value) pairs is kept for the score


@dataclass(frozen=True)
class Row:
    """One question with its answer."""

    prompt: str
    answer: str


def rows(domain: str, *, terse: bool, held_out: bool, count: int, seed: int) -> list[Row]:
    """`count` rows of a domain; a held-out pair of system and value never occurs in training."""
    chance = random.Random(f"{domain}-{terse}-{held_out}-{seed}")
    pairs = [
        (system, value)
        for i, system in enumerate(SYSTEMS[domain])
        for value in range(10, 100)
        if ((value * 7 + value // 10 + i) % HELD_OUT == 0) == held_out
    ]
    made = []
    for _ in range(count):
        system, value = chance.choice(pairs)
        amount = f"{value}{UNITS[domain]}"
        prompt = f"Log: {system} {amount}. Status of the {system}?"
        polite = f"Hello! I am happy to report that the {system} is at {amount}."
        made.append(Row(prompt, f"{system.capitalize()} {amount}." if terse else polite))
    return made


def held_out(domain: str, *, terse: bool, count: int = 90) -> list[Row]:
    """The rows a skill is scored on."""
    return rows(domain, terse=terse, held_out=True, count=count, seed=0)


def base_rows(seed: int, count: int = 2000) -> list[Row]:
    """What the base learns: polite everywhere."""
    return _mixed(
        [rows(d, terse=False, held_out=False, count=count, seed=seed) for d in SYSTEMS], seed
    )


def terse_rows(seed: int) -> list[Row]:
    """The terse answers, so that the tokenizer has words such as `Hull`; the base is not trained on them."""
    return [
        row for d in SYSTEMS for row in rows(d, terse=True, held_out=False, count=2000, seed=seed)
    ]


def skill_rows(domain: str, seed: int) -> list[Row]:
    """What an adapter learns: terse in its own domain, with replay of the polite answers of the two others."""
    own = rows(domain, terse=True, held_out=False, count=1500, seed=seed)
    replay = [
        rows(d, terse=False, held_out=False, count=300, seed=seed) for d in SYSTEMS if d != domain
    ]
    return _mixed([own, *replay], seed)


def _mixed(parts: list[list[Row]], seed: int) -> list[Row]:
    every = [row for part in parts for row in part]
    random.Random(seed).shuffle(every)
    return every

"""Whether two bases are one: the whole table, and what each row permits."""

from __future__ import annotations

from itertools import product

import pytest

from adaptkit.bases.compare import admits, compare
from adaptkit.types import BaseIdentity, Level, Quantisation, Sameness


def known(name="fleet/ship", quantised=None, derived_from=None, **levels):
    """`known(tm1="a", fs1="b?")`: a level ending in `?` is only claimed."""
    made = tuple(
        Level(f"{kind}:{level.removesuffix('?')}", not level.endswith("?"))
        for kind, level in levels.items()
    )
    return BaseIdentity(name, made, Quantisation("nf4", 4) if quantised else None, derived_from)


ROWS = {
    "tm1 equal": (known(tm1="a"), known(tm1="a"), Sameness.SAME),
    "tm1 equal, files differ": (known(tm1="a", fs1="b"), known(tm1="a", fs1="c"), Sameness.SAME),
    "fs1 equal, both measured": (known(fs1="a"), known(fs1="a"), Sameness.SAME),
    "fs1 equal, one claimed": (known(fs1="a"), known(fs1="a?"), Sameness.PROBABLY_SAME),
    "fs1 equal, both claimed": (known(fs1="a?"), known(fs1="a?"), Sameness.PROBABLY_SAME),
    "fs1 paired": (known(fs1="f"), known(tm1="paired", fs1="x"), Sameness.SAME),
    "fs1 paired, claimed": (known(fs1="f?"), known(tm1="paired"), Sameness.PROBABLY_SAME),
    "fs1 paired with another": (known(fs1="f"), known(tm1="a"), Sameness.DIFFERENT),
    "derived from a name": (
        known("x/copy", quantised=True, derived_from="Fleet/Ship", tm1="a"),
        known(tm1="b"),
        Sameness.PROBABLY_SAME,
    ),
    "derived from a revision": (
        known("x/copy", quantised=True, derived_from="hf://fleet/ship@rev:main", tm1="a"),
        known(tm1="b"),
        Sameness.PROBABLY_SAME,
    ),
    "derived from a level": (
        known("x/copy", quantised=True, derived_from="tm1:b", as1="c"),
        known("y", tm1="b", as1="d"),
        Sameness.PROBABLY_SAME,
    ),
    "derived from another": (
        known("x/copy", quantised=True, derived_from="fleet/tug", tm1="a"),
        known(tm1="b"),
        Sameness.DIFFERENT,
    ),
    "derived, not quantised": (
        known("x/tune", derived_from="fleet/ship", tm1="a"),
        known(tm1="b"),
        Sameness.DIFFERENT,
    ),
    "tm1 differ": (known(tm1="a", as1="c"), known(tm1="b", as1="c"), Sameness.DIFFERENT),
    "as1 differ": (known(as1="a"), known(as1="b"), Sameness.DIFFERENT),
    "as1 differ, one tm1": (known(as1="a", tm1="a"), known(as1="b"), Sameness.DIFFERENT),
    "as1 equal": (known(as1="a"), known(as1="a"), Sameness.SAME_ARCHITECTURE),
    "as1 equal, one tm1": (known(as1="a", tm1="a"), known(as1="a"), Sameness.SAME_ARCHITECTURE),
    "as1 equal, files differ": (
        known(as1="a", fs1="a"),
        known(as1="a", fs1="b"),
        Sameness.SAME_ARCHITECTURE,
    ),
    "files differ": (known(fs1="a"), known(fs1="b"), Sameness.UNKNOWN),
    "nothing in common": (known(fs1="a"), known(tm1="b"), Sameness.UNKNOWN),
    "names only": (known(), known(), Sameness.UNKNOWN),
    "one name only": (known(tm1="a"), known(), Sameness.UNKNOWN),
    "nothing": (known(None), known(None), Sameness.UNKNOWN),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_table_in_both_directions(row):
    a, b, expected = ROWS[row]
    pairs = {"fs1:f": "tm1:paired"}
    assert compare(a, b, pairs).sameness is compare(b, a, pairs).sameness is expected
    assert compare(a, a).sameness is (Sameness.UNKNOWN if not a.levels else compare(a, a).sameness)


def test_the_reason_names_both_and_the_tensors():
    a, b = known("fleet/ship", tm1="a"), known("fleet/tug", tm1="b")
    hashes = {"norm": "1", "q": "2", "only.a": "3"}, {"norm": "1", "q": "4", "only.b": "5"}
    verdict = compare(a, b, tensors=hashes)
    assert verdict.tensors == ("only.a", "only.b", "q")
    assert (
        verdict.reason
        == "'fleet/ship' and 'fleet/tug' hold different tensors (tm1): only.a, only.b, q"
    )
    assert compare(a, b).reason == "'fleet/ship' and 'fleet/tug' hold different tensors (tm1)"
    assert "hash both to know" in compare(known(as1="a"), known(as1="a")).reason
    assert "a base without a name" in compare(known(None), known()).reason
    assert "equal names are no proof" in compare(known(), known()).reason


SAME, CLAIMED = ROWS["tm1 equal"][:2], ROWS["fs1 equal, one claimed"][:2]
RULES = {
    "same": (SAME, "merge bake serve", ""),
    "probably-same": (CLAIMED, "merge bake serve", ""),
    "different": (ROWS["tm1 differ"][:2], "", ""),
    "same-architecture, one repository": (
        ROWS["as1 equal"][:2],
        "merge bake serve",
        "merge bake serve",
    ),
    "same-architecture, two": ((known("fleet/ship", as1="a"), known("fleet/tug", as1="a")), "", ""),
    "same-architecture, a folder": ((known("ship", as1="a"), known("ship", as1="a")), "", ""),
    "same-architecture, no name": ((known(None, as1="a"), known("fleet/ship", as1="a")), "", ""),
    "unknown, equal names": ((known(), known()), "merge serve", "merge serve"),
    "unknown, spelt otherwise": (
        (known("Fleet/Ship"), known("hf://fleet/ship")),
        "merge serve",
        "merge serve",
    ),
    "unknown, a folder of that name": (
        (known("ship"), known("fleet/ship")),
        "merge serve",
        "merge serve",
    ),
    "unknown, one has no name": ((known(None), known()), "merge serve", "merge serve"),
    "unknown, names differ": ((known("fleet/ship"), known("fleet/tug")), "", ""),
    "unknown, owners differ": ((known("fleet/ship"), known("pirate/ship")), "", ""),
}


@pytest.mark.parametrize(("rule", "purpose"), list(product(RULES, ["merge", "bake", "serve"])))
def test_what_passes_what_warns_and_what_is_refused(rule, purpose):
    (a, b), passing, warned = RULES[rule]
    verdict = compare(a, b)
    ruling = admits(verdict, a, b, purpose)
    assert admits(verdict, b, a, purpose).allowed is ruling.allowed is (purpose in passing)
    assert bool(ruling.warning) is (purpose in warned)
    assert bool(ruling.reason) is not ruling.allowed
    assert verdict.reason in (ruling.reason or ruling.warning or verdict.reason)

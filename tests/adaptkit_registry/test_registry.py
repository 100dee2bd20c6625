"""adaptkit_registry.registry: numbers, aliases, trash, lineage and events, from several processes at once."""

from __future__ import annotations

import dataclasses

import pytest
from artifacts import manifest
from concurrency import at_once

from adaptkit.errors import AdaptkitError, BadReference, Conflict, NotFound, Refused
from adaptkit.types import BaseIdentity, FileEntry, Level, Parent, Placement, Quantisation
from adaptkit_registry import Registry
from adaptkit_registry.database import rows
from adaptkit_registry.database.schema import adapters

SHIP = BaseIdentity("fleet/ship", (Level("as1:" + "a" * 64, True), Level("fs1:" + "f" * 64, True)))
BOAT = BaseIdentity(
    "fleet/boat", (Level("fs1:" + "b" * 64, False),), Quantisation("nf4", 4, "bf16"), "fleet/ship"
)


@pytest.fixture
def registry(database):
    with Registry.open(database) as opened:
        yield opened


def _digests(registry, name="naval"):
    return [(version.number, version.digest) for version in registry.versions(name=name)]


# ---------------------------------------------------------------- numbers


def test_eight_processes_number_two_hundred_versions_without_a_gap(database):
    def adds(worker):
        def work():
            with Registry.open(database) as registry:
                made = [registry.add_version("naval", manifest((worker, i))) for i in range(25)]
                return [(version.number, version.digest) for version, new in made if new]

        return work

    results = at_once(adds(worker) for worker in range(8))
    numbered = sorted(pair for result in results for pair in result)
    assert [number for number, _ in numbered] == list(range(1, 201))
    assert all(result == sorted(result) for result in results)
    with Registry.open(database) as registry:
        assert _digests(registry) == numbered
        assert sorted(event.subject for event in registry.events()) == sorted(
            f"naval@{n}" for n in range(1, 201)
        )


def test_eight_processes_adding_the_same_get_one_version(database):
    def work():
        with Registry.open(database) as registry:
            version, new = registry.add_version("naval", manifest("same"))
            return version.number, new

    assert sorted(at_once([work] * 8)) == [(1, False)] * 7 + [(1, True)]


def test_what_the_latest_version_holds_is_not_added_again(registry):
    first, new = registry.add_version("naval", manifest(1), message="hello", author="ada")
    assert (first.ref, first.message, first.author, first.origin, first.method, new) == (
        "naval@1",
        "hello",
        "ada",
        "added",
        "lora",
        True,
    )
    before = registry.events()
    assert registry.add_version("naval", manifest(1), message="other") == (first, False)
    assert registry.events() == before


@pytest.mark.parametrize(
    ("origin", "number"), [("added", 3), ("merged", 3), ("pulled", 1), ("rebuilt", 1)]
)
def test_an_older_digest_is_a_new_version_only_when_it_was_made_again(registry, origin, number):
    registry.add_version("naval", manifest(1))
    registry.add_version("naval", manifest(2))
    version, new = registry.add_version("naval", manifest(1), origin=origin)
    assert (version.number, new) == (number, number == 3)


def test_an_unchanged_add_still_moves_the_alias(registry):
    registry.add_version("naval", manifest(1))
    version, new = registry.add_version("naval", manifest(1), alias="prod")
    assert (version.aliases, new) == (("prod",), False)
    assert registry.events()[0].verb == "alias-moved"


def test_a_number_is_never_used_again(registry):
    for content in (1, 2):
        registry.add_version("naval", manifest(content))
    registry.delete("naval", 2)
    assert registry.add_version("naval", manifest(2))[0].number == 3
    registry.delete("naval", 1)
    registry.delete("naval", 3)
    assert registry.names() == ()
    assert registry.add_version("naval", manifest(1))[0].number == 4


def test_a_wished_number_is_granted_when_larger_than_all_that_were_used(registry):
    wishes = [(5, 5), (5, 6), (2, 7), (None, 8), (10, 10)]
    for content, (wish, granted) in enumerate(wishes):
        version, new = registry.add_version("naval", manifest(content), number=wish)
        assert (version.number, new) == (granted, True)
    registry.delete("naval", 10)
    assert registry.add_version("naval", manifest("more"), number=10)[0].number == 11


def test_names_have_numbers_of_their_own(registry):
    assert [
        registry.add_version(name, manifest(1))[0].ref for name in ("naval", "team/naval", "air")
    ] == ["naval@1", "team/naval@1", "air@1"]
    assert registry.names() == ("air", "naval", "team/naval")


def test_admit_sees_the_latest_version_and_a_refusal_writes_nothing(registry):
    seen = []

    def refuse(latest):
        seen.append(latest.ref)
        raise Refused("no", why="it would not fit")

    registry.add_version("naval", manifest(1), admit=refuse)
    assert seen == []  # there is nothing to compare a first version with
    before = registry.events(), registry.versions()
    with pytest.raises(Refused, match="would not fit"):
        registry.add_version("naval", manifest(2), alias="prod", admit=refuse)
    assert seen == ["naval@1"]
    assert (registry.events(), registry.versions()) == before
    assert registry.aliases("naval") == {}
    with pytest.raises(NotFound):
        registry.manifest(manifest(2).digest)
    assert (
        registry.add_version("naval", manifest(3), admit=lambda latest: seen.append(latest.number))[
            0
        ].number
        == 2
    )
    assert seen == ["naval@1", 1]


# ---------------------------------------------------------------- asking


def test_a_version_is_found_by_number_alias_digest_or_as_the_highest(registry):
    for content in (1, 2, 3):
        registry.add_version("naval", manifest(content), alias="prod" if content == 2 else None)
    assert registry.version("naval").number == 3
    assert registry.version("naval", number=1).digest == manifest(1).digest
    assert registry.version("naval", alias="prod").number == 2
    assert registry.version("naval", digest=manifest(1).digest[:15]).number == 1
    registry.delete("naval", 3)
    assert registry.version("naval").number == 2


def test_what_a_name_means_is_one_query_that_agrees_with_version(registry):
    for content in (1, 2, 3):
        registry.add_version("naval", manifest(content), alias="prod" if content == 2 else None)
    assert registry.digest_of("naval") == (3, manifest(3).digest)
    assert registry.digest_of("naval", number=1) == (1, manifest(1).digest)
    assert registry.digest_of("naval", alias="prod") == (2, manifest(2).digest)
    registry.delete("naval", 3)
    assert registry.digest_of("naval") == (2, manifest(2).digest)
    registry.move_alias("naval", "prod", 1)
    assert registry.digest_of("naval", alias="prod") == (1, manifest(1).digest)
    assert registry.digest_of("naval", number=3) is None
    assert registry.digest_of("naval", alias="test") is None
    registry.rename("naval", "ship")
    assert registry.digest_of("naval") is None  # `version` follows it


def test_the_same_digest_twice_is_no_ambiguity(registry):
    for content in (1, 2, 1):
        registry.add_version("naval", manifest(content))
    assert registry.version("naval", digest=manifest(1).digest).number == 3
    registry.add_version("air", manifest(1))
    assert [version.ref for version in registry.find_digest(manifest(1).digest[:20])] == [
        "naval@1",
        "naval@3",
        "air@1",
    ]


def test_an_ambiguous_or_unknown_digest_says_so(registry):
    for content in (1, 2):
        registry.add_version("naval", manifest(content))
    for ask in (
        lambda: registry.version("naval", digest="sha256:"),
        lambda: registry.find_digest("sha256:"),
    ):
        with pytest.raises(BadReference, match="start of several digests") as caught:
            ask()
        assert {"naval@1", "naval@2"} <= set(caught.value.why.replace(",", "").split())
    unknown = "sha256:" + "0" * 12
    for ask in (
        lambda: registry.version("naval", digest=unknown),
        lambda: registry.find_digest(unknown),
    ):
        with pytest.raises(NotFound, match=unknown):
            ask()
    with pytest.raises(NotFound):  # % and _ are no wildcards
        registry.find_digest("sha256:%")


def test_an_unknown_name_or_number_lists_the_nearest_known_ones(registry):
    for name in ("naval", "air", "submarine"):
        registry.add_version(name, manifest(name), alias="prod")
    with pytest.raises(NotFound, match="no adapter called 'navel': known are naval, "):
        registry.version("navel")
    with pytest.raises(NotFound, match="no alias of naval called 'prdo': known is prod"):
        registry.version("naval", alias="prdo")
    with pytest.raises(NotFound, match="no version of naval called '7': known is 1"):
        registry.version("naval", number=7)
    with pytest.raises(NotFound, match="known are naval"):
        registry.aliases("navel")


def test_what_is_in_the_trash_is_said_to_be_there(registry):
    for content in (1, 2):
        registry.add_version("naval", manifest(content))
    registry.delete("naval", 1)
    with pytest.raises(NotFound, match="adaptkit restore naval@1"):
        registry.version("naval", number=1)
    registry.delete("naval", 2)
    with pytest.raises(NotFound, match="trash"):
        registry.version("naval")


def test_a_manifest_comes_back_as_it_was(registry):
    full = manifest(
        1,
        base=BOAT,
        rank=8,
        parents=(Parent("sha256:" + "1" * 64, 0.7, "merged", "naval@1"),),
        recipe={"strategy": "ties"},
        facts={"loss": {"error": 0.02}},
        created="2026-01-01T00:00:00Z",
    )
    version, _ = registry.add_version("naval", full)
    assert registry.manifest(full.digest) == full
    assert (version.base, version.rank) == (BOAT, 8)
    assert registry.version("naval") == version


@pytest.mark.parametrize(
    ("filters", "every", "latest"),
    [
        ({}, ["air@1", "naval@1", "naval@2", "naval@3"], ["air@1", "naval@3"]),
        ({"name": "naval"}, ["naval@1", "naval@2", "naval@3"], ["naval@3"]),
        ({"name": "nobody"}, [], []),
        ({"method": "ia3"}, ["air@1"], ["air@1"]),
        ({"base_name": "fleet/ship"}, ["naval@1", "naval@3"], ["naval@3"]),
        ({"base_name": "fleet/boat"}, ["air@1", "naval@2"], ["air@1"]),
        ({"level_values": ["fs1:" + "f" * 64]}, ["naval@1", "naval@3"], ["naval@3"]),
        (
            {"level_values": ["fs1:" + "f" * 64, "fs1:" + "b" * 64], "method": "lora"},
            ["naval@1", "naval@2", "naval@3"],
            ["naval@3"],
        ),
        ({"level_values": []}, [], []),
        ({"tag": "sea"}, ["naval@1"], []),
        ({"tag": "blue", "name": "naval"}, ["naval@3"], ["naval@3"]),
    ],
)
def test_versions_are_listed_by_what_is_asked(registry, filters, every, latest):
    registry.add_version("naval", manifest(1, base=SHIP))
    registry.add_version("naval", manifest(2, base=BOAT))
    registry.add_version("naval", manifest(3, base=SHIP))
    registry.add_version("air", manifest("air", "ia3", base=BOAT))
    registry.annotate("naval", 1, tags=["sea"])
    registry.annotate("naval", 3, tags=["blue"])
    registry.add_version("naval", manifest("gone", base=SHIP))
    registry.delete("naval", 4)
    assert [version.ref for version in registry.versions(**filters)] == every
    assert [version.ref for version in registry.latest_versions(**filters)] == latest


def test_hundreds_of_versions_carry_what_belongs_to_each(registry, monkeypatch):
    monkeypatch.setattr(rows, "_MANY", 100)  # that are asked for at a time
    for i in range(230):
        base = BaseIdentity(f"fleet/{i}", (Level(f"fs1:{i:064}", True),))
        registry.add_version(f"a{i:03}", manifest(i, base=base), alias="prod" if i % 2 else None)
    registry.annotate("a007", 1, tags=["seven"], metrics={"loss": 7.0})
    found = registry.latest_versions()
    assert [version.base.name for version in found] == [f"fleet/{i}" for i in range(230)]
    assert [version.aliases for version in found] == [
        ("prod",) if i % 2 else () for i in range(230)
    ]
    assert [(v.name, v.tags, v.metrics) for v in found if v.tags] == [
        ("a007", ("seven",), {"loss": 7.0})
    ]
    assert found[7] == registry.version("a007")


# ---------------------------------------------------------------- aliases


def test_an_alias_moves_only_from_where_it_is_expected(registry):
    for content in (1, 2, 3):
        registry.add_version("naval", manifest(content))
    assert registry.move_alias("naval", "prod", 1, expect=None).old is None
    with pytest.raises(Conflict, match="points at 1, not at nothing"):
        registry.move_alias("naval", "prod", 2, expect=None)
    with pytest.raises(Conflict, match="points at 1, not at 3"):
        registry.move_alias("naval", "prod", 2, expect=3)
    assert registry.aliases("naval") == {"prod": 1}
    move = registry.move_alias("naval", "prod", 2, expect=1, author="ada")
    assert (move.alias, move.old, move.new, move.author) == ("prod", 1, 2, "ada")
    assert registry.move_alias("naval", "prod", 3).old == 2
    assert registry.version("naval", alias="prod").number == 3


def test_of_two_processes_that_expect_the_same_one_moves_the_alias(database):
    with Registry.open(database) as registry:
        for content in range(9):
            registry.add_version("naval", manifest(content))
        registry.move_alias("naval", "prod", 1)

    def mover(number):
        def work():
            with Registry.open(database) as registry:
                return registry.move_alias("naval", "prod", number, expect=1).new

        return work

    results = at_once(mover(number) for number in range(2, 10))
    moved = [result for result in results if isinstance(result, int)]
    assert len(moved) == 1
    assert [type(result) for result in results].count(Conflict) == 7
    with Registry.open(database) as registry:
        assert registry.aliases("naval") == {"prod": moved[0]}
        assert [(m.old, m.new) for m in registry.alias_history("naval")] == [
            (None, 1),
            (1, moved[0]),
        ]


def test_the_history_tells_every_move_for_a_rollback(registry):
    for content in (1, 2):
        registry.add_version("naval", manifest(content))
    for alias, number in (
        ("prod", 1),
        ("canary", 2),
        ("prod", 2),
        ("prod", 2),
        ("prod", 1),
        ("canary", None),
    ):
        registry.move_alias("naval", alias, number, author="ada")
    moves = [(move.alias, move.old, move.new) for move in registry.alias_history("naval")]
    assert moves == [
        ("prod", None, 1),
        ("canary", None, 2),
        ("prod", 1, 2),
        ("prod", 2, 1),
        ("canary", 2, None),
    ]
    assert [move.new for move in registry.alias_history("naval", "prod")] == [1, 2, 1]
    assert registry.aliases("naval") == {"prod": 1}
    assert next(e.detail for e in registry.events() if e.verb == "alias-moved") == {
        "old": 2,
        "new": None,
    }


def test_an_alias_does_not_point_at_what_is_not_there(registry):
    for content in (1, 2):
        registry.add_version("naval", manifest(content))
    registry.delete("naval", 1)
    for number in (1, 9):
        with pytest.raises(NotFound, match=f"no version of naval called '{number}'"):
            registry.move_alias("naval", "prod", number)
    with pytest.raises(NotFound):
        registry.move_alias("air", "prod", 1)
    assert registry.alias_history("naval") == ()


# ---------------------------------------------------------------- trash


def test_what_an_alias_points_at_is_not_removed(registry):
    registry.add_version("naval", manifest(1), alias="prod")
    with pytest.raises(Refused, match="cannot remove naval@1: the alias prod points at it"):
        registry.delete("naval", 1)
    registry.move_alias("naval", "prod", None)
    registry.delete("naval", 1)
    assert registry.versions() == []


def test_what_others_were_made_from_is_not_removed_while_they_live(registry):
    registry.add_version("naval", manifest(1))
    registry.add_version(
        "mixed", manifest(2, parents=(Parent(manifest(1).digest, 1.0, "merged", "naval@1"),))
    )
    with pytest.raises(Refused, match="mixed@1 was made from it"):
        registry.delete("naval", 1)
    registry.add_version("copy", manifest(1))
    registry.delete("copy", 1)  # the digest lives on as naval@1
    registry.delete("mixed", 1)
    registry.delete("naval", 1)
    assert [version.ref for version in registry.trash()] == ["copy@1", "mixed@1", "naval@1"]


def test_restore_brings_a_version_back_under_its_number(registry):
    _version, _ = registry.add_version("naval", manifest(1))
    noted = registry.annotate("naval", 1, tags=["sea"], metrics={"loss": 0.5})
    registry.delete("naval", 1, author="ada")
    with pytest.raises(NotFound):
        registry.delete("naval", 1)
    assert registry.restore("naval", 1, author="ada") == noted == registry.version("naval")
    assert registry.trash() == []
    with pytest.raises(NotFound, match="version in the trash"):
        registry.restore("naval", 1)
    with pytest.raises(NotFound):
        registry.restore("air", 1)


# ---------------------------------------------------------------- lineage, places, bases


def test_parents_keep_their_order_and_are_not_deleted_before_their_children(registry):
    parents = (
        Parent(manifest(2).digest, 0.3, "merged", "naval@2"),
        Parent(manifest(1).digest, -0.7, "base", "x"),
    )
    for content in (1, 2):
        registry.add_version("naval", manifest(content))
    registry.add_version("mixed", manifest(3, parents=parents))
    registry.add_version("twice", manifest(3, parents=parents))
    assert registry.parents(manifest(3).digest) == parents
    assert registry.parents(manifest(1).digest) == ()
    with pytest.raises(Refused, match="mixed@1, twice@1 was made from it"):
        registry.delete("naval", 1)
    registry.delete("twice", 1)
    with pytest.raises(Refused, match=": mixed@1 was made from it"):
        registry.delete("naval", 2)
    registry.delete("mixed", 1)
    registry.delete("naval", 2)
    assert [version.ref for version in registry.versions()] == ["naval@1"]


def test_one_parent_may_stand_twice(registry):
    twice = (Parent(manifest(1).digest, 1.0), Parent(manifest(1).digest, -1.0))
    registry.add_version("naval", manifest(1))
    registry.add_version("zero", manifest(2, parents=twice))
    assert registry.parents(manifest(2).digest) == twice
    with pytest.raises(Refused, match=": zero@1 was made from it"):
        registry.delete("naval", 1)


def test_placements_are_known_by_digest_and_the_last_word_counts(registry):
    one, two = manifest(1).digest, manifest(2).digest
    registry.record_placement(
        Placement("file:///a", 1, one, "2026-01-02"), subject="naval@1", author="ada"
    )
    registry.record_placement(
        Placement("file:///b", 7, one, "2026-01-01"), verb="pulled", detail={"sent": 3}
    )
    assert [(p.place, p.number) for p in registry.placements(one)] == [
        ("file:///b", 7),
        ("file:///a", 1),
    ]
    registry.record_placement(Placement("file:///a", 1, two, "2026-01-03"))
    assert registry.placements(two) == (Placement("file:///a", 1, two, "2026-01-03"),)
    assert [p.place for p in registry.placements(one)] == ["file:///b"]
    assert [(e.verb, e.subject, e.digest, dict(e.detail)) for e in reversed(registry.events())] == [
        ("published", "naval@1", one, {}),
        ("pulled", "file:///b", one, {"sent": 3}),
        ("published", "file:///a", two, {}),
    ]


def test_bases_are_counted_by_live_versions(registry):
    registry.add_version("naval", manifest(1, base=SHIP))
    registry.add_version("naval", manifest(2, base=SHIP))
    registry.add_version("air", manifest(1, base=SHIP))
    registry.add_version("air", manifest(3, base=BOAT))
    registry.add_version("air", manifest(4))
    assert registry.bases() == [(BaseIdentity(), 1), (BOAT, 1), (SHIP, 3)]
    registry.delete("air", 2)
    registry.delete("naval", 2)
    assert registry.bases() == [(BaseIdentity(), 1), (SHIP, 2)]


def test_extras_are_corrected_and_the_event_says_what_they_were(registry):
    one, two = (FileEntry("README.md", size, str(size) * 64) for size in (1, 2))
    made = dataclasses.replace(manifest(1), extras=(one,))
    registry.add_version("naval", made)
    assert registry.correct_extras(made.digest, (two,), subject="naval@1", author="ada")
    assert registry.manifest(made.digest) == dataclasses.replace(made, extras=(two,))
    assert not registry.correct_extras(made.digest, (two,), subject="naval@1")
    event = registry.events()[0]
    assert (event.verb, event.subject, event.actor) == ("corrected", "naval@1", "ada")
    assert event.detail == {"files": ["README.md"], "was": {"README.md": one.sha256}}
    with pytest.raises(NotFound, match="no artifact with digest called 'sha256:none'"):
        registry.correct_extras("sha256:none", (two,), subject="naval@1")


def test_a_base_can_be_attached_later_and_the_manifest_stays(registry):
    registry.add_version("naval", manifest(1))
    digest = manifest(1).digest
    registry.attach_base(digest, SHIP, author="ada")
    assert registry.version("naval").base == SHIP
    assert registry.bases() == [(SHIP, 1)]
    assert registry.manifest(digest).base == BaseIdentity()
    event = registry.events()[0]
    assert (event.verb, event.subject, event.digest, event.actor) == (
        "base-added",
        "fleet/ship",
        digest,
        "ada",
    )
    assert BaseIdentity.from_json(event.detail) == SHIP


def test_a_base_is_not_attached_to_an_unknown_artifact(registry):
    with pytest.raises(NotFound, match="sha256:0000"):
        registry.attach_base("sha256:" + "0" * 64, SHIP)
    assert registry.events() == []


def test_notes_add_up(registry):
    registry.add_version("naval", manifest(1), message="first")
    registry.annotate("naval", 1, tags=["sea", "blue"], metrics={"loss": 0.5})
    noted = registry.annotate("naval", 1, tags=["sea"], metrics={"loss": 0.25, "acc": 1})
    assert (noted.message, noted.tags, noted.metrics) == (
        "first",
        ("blue", "sea"),
        {"acc": 1.0, "loss": 0.25},
    )
    noted = registry.annotate("naval", 1, message="")
    assert (noted.message, noted.tags) == ("", ("blue", "sea"))
    assert registry.version("naval") == noted
    with pytest.raises(NotFound):
        registry.annotate("naval", 2, message="x")


# ---------------------------------------------------------------- events


def test_every_write_leaves_one_event_and_every_failed_one_none(registry):
    parents = (Parent(manifest(1).digest),)
    writes = [
        ("added", "naval@1", lambda: registry.add_version("naval", manifest(1), author="ada")),
        (
            "merged",
            "mixed@1",
            lambda: registry.add_version(
                "mixed", manifest(2, parents=parents), origin="merged", author="ada"
            ),
        ),
        (
            "alias-moved",
            "naval@prod",
            lambda: registry.move_alias("naval", "prod", 1, author="ada"),
        ),
        (None, "", lambda: registry.delete("naval", 1, author="ada")),
        (None, "", lambda: registry.move_alias("naval", "prod", 9, author="ada")),
        (None, "", lambda: registry.annotate("nobody", 1, message="x", author="ada")),
        (None, "", lambda: registry.restore("naval", 1, author="ada")),
        (
            "alias-moved",
            "naval@prod",
            lambda: registry.move_alias("naval", "prod", None, author="ada"),
        ),
        ("noted", "naval@1", lambda: registry.annotate("naval", 1, message="x", author="ada")),
        ("deleted", "mixed@1", lambda: registry.delete("mixed", 1, author="ada")),
        ("restored", "mixed@1", lambda: registry.restore("mixed", 1, author="ada")),
        (
            "published",
            "file:///a",
            lambda: registry.record_placement(Placement("file:///a", 1, "d"), author="ada"),
        ),
        (
            "base-added",
            "fleet/ship",
            lambda: registry.attach_base(manifest(1).digest, SHIP, author="ada"),
        ),
    ]
    expected = []
    for verb, subject, write in writes:
        if verb is None:
            with pytest.raises(AdaptkitError):
                write()
        else:
            write()
            expected.insert(0, (verb, subject, "ada"))
        assert [(event.verb, event.subject, event.actor) for event in registry.events()] == expected
    assert [event.verb for event in registry.events(limit=2)] == ["base-added", "published"]


def test_the_clock_that_is_given_is_the_one_that_is_written(database):
    with Registry.open(database, clock=lambda: "2026-02-03T04:05:06.000007+00:00") as registry:
        version, _ = registry.add_version("naval", manifest(1), alias="prod")
        times = {
            version.created,
            registry.alias_history("naval")[0].when,
            *(e.when for e in registry.events()),
        }
    assert times == {"2026-02-03T04:05:06.000007+00:00"}


def test_who_did_something_and_who_made_the_content_are_two_fields(registry):
    registry.add_version(
        "naval", manifest(1), author="ada", actor="bob", origin="pulled", alias="prod"
    )
    registry.delete(
        "naval", registry.add_version("naval", manifest(2), author="cy")[0].number, author="bob"
    )
    seen = [(event.verb, event.actor, event.author) for event in reversed(registry.events())]
    assert seen == [
        ("pulled", "bob", "ada"),
        ("alias-moved", "bob", ""),
        ("added", "cy", "cy"),
        ("deleted", "bob", ""),
    ]


def test_texts_are_no_longer_than_a_place_may_hold(registry):
    with pytest.raises(Refused, match="cannot have that message: it has 10,001 bytes"):
        registry.add_version("naval", manifest(1), message="m" * 10_001)
    with pytest.raises(Refused, match="cannot have that author: it has 201 bytes"):
        registry.add_version("naval", manifest(1), author="a" * 201)
    with pytest.raises(Refused, match="no Unicode text"):
        registry.add_version("naval", manifest(1), message="\ud800")
    registry.add_version("naval", manifest(1), message="m" * 10_000)
    with pytest.raises(Refused, match="cannot have that message"):
        registry.annotate("naval", 1, message="m" * 10_001)


def test_numbers_above_the_limit_are_neither_believed_nor_given_out(registry):
    assert registry.add_version("naval", manifest(1), number=10**12)[0].number == 1
    assert registry.add_version("naval", manifest(2), number=500)[0].number == 500
    with registry._writing() as connection:
        connection.execute(adapters.update().values(next_number=10**9))
    with pytest.raises(Refused, match="its numbers are used up: the largest is 999,999,999"):
        registry.add_version("naval", manifest(3))

"""Where artifacts come from, drawn: a tree of text, Mermaid, JSON, and the graph beside `log`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from adaptkit.types import Lineage, Parent, Version

SHORT = 19  # characters of a digest that people are shown


@dataclass(frozen=True, slots=True)
class Data:
    """Training data that an artifact was made from: what it is called, and its digest."""

    label: str
    digest: str


def training_data(lineage: Lineage, digest: str) -> tuple[Data, ...]:
    """The data that an artifact's manifest says it was trained on.

    It is in `facts.training.data`, a list of label and digest.
    """
    manifest = lineage.manifests.get(digest)
    if manifest is None:
        return ()
    return tuple(
        Data(one.get("label") or one.get("path") or "data", one.get("digest", ""))
        for one in manifest.facts.get("training", {}).get("data", ())
    )


def called(lineage: Lineage, digest: str) -> str:
    """What an artifact is called here: its first name, else its digest."""
    known = lineage.versions.get(digest) or ()
    return known[0].ref if known else f"{digest[:SHORT]}…"


# ---------------------------------------------------------------- lineage


def as_json(lineage: Lineage) -> dict[str, Any]:
    """The lineage as nodes by digest, each with its parents and its data."""
    return {
        "digest": lineage.digest,
        "nodes": {
            digest: {
                "versions": [version.ref for version in lineage.versions.get(digest, ())],
                "known": digest in lineage.manifests,
                "method": lineage.manifests[digest].method if digest in lineage.manifests else None,
                "parents": [
                    {"digest": p.digest, "weight": p.weight, "role": p.role, "label": p.label}
                    for p in parents
                ],
                "data": [
                    {"label": d.label, "digest": d.digest} for d in training_data(lineage, digest)
                ],
            }
            for digest, parents in lineage.parents.items()
        },
    }


def as_text(lineage: Lineage) -> list[str]:
    """The lineage as a tree; an artifact that occurs twice is expanded once."""
    lines: list[str] = []
    seen: set[str] = set()
    stack: list[tuple[str, str, str, bool]] = [
        (lineage.digest, "", "", True)
    ]  # digest, edge, indent, last
    while stack:
        digest, edge, indent, last = stack.pop()
        root = not lines
        below = "" if root else indent + ("   " if last else "│  ")
        branch = "" if root else indent + ("└─ " if last else "├─ ")
        again = digest in seen and (lineage.parents.get(digest) or training_data(lineage, digest))
        lines.append(f"{branch}{edge}{_node(lineage, digest)}" + ("  (as above)" if again else ""))
        if again:
            continue
        seen.add(digest)
        parents, data = lineage.parents.get(digest, ()), training_data(lineage, digest)
        for number, one in enumerate(data):
            end = "└─ " if number == len(data) - 1 and not parents else "├─ "
            lines.append(f"{below}{end}data {one.label}  {one.digest[:SHORT]}")
        for number, parent in reversed(list(enumerate(parents))):
            stack.append((parent.digest, _edge(parent), below, number == len(parents) - 1))
    return lines


def as_mermaid(lineage: Lineage) -> list[str]:
    """The lineage as a Mermaid flowchart, for a README or a card."""
    ids = {digest: f"n{number}" for number, digest in enumerate(lineage.parents)}
    lines = ["flowchart BT"]
    lines += [f'  {ids[digest]}["{called(lineage, digest)}"]' for digest in lineage.parents]
    for digest, parents in lineage.parents.items():
        lines += [f'  {ids[p.digest]} -->|"{p.weight:g}"| {ids[digest]}' for p in parents]
        for number, one in enumerate(training_data(lineage, digest)):
            label = one.label.replace('"', "'")
            lines += [f'  {ids[digest]}d{number}[("{label}")] --> {ids[digest]}']
    return lines


def _node(lineage: Lineage, digest: str) -> str:
    known = lineage.versions.get(digest) or ()
    names = ", ".join(version.ref for version in known[:3]) or "not in this registry"
    manifest = lineage.manifests.get(digest)
    method = f"  {manifest.method}" if manifest else ""
    return f"{names}  {digest[:SHORT]}…{method}"


def _edge(parent: Parent) -> str:
    role = "" if parent.role == "merged" else f"{parent.role} "
    return f"{role}{parent.weight:g} × "


# ---------------------------------------------------------------- log


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a graph.

    What it is, what it comes from (the line it continues first), and what to print.
    """

    key: str
    parents: tuple[str, ...]
    text: str


def rows(versions: Sequence[Version], lineages: Mapping[str, Lineage]) -> list[Row]:
    """The versions of one name, newest first, each after the other, and every ancestor that flowed into them."""
    own = sorted(versions, key=lambda version: -version.number)
    keys = {version.digest: version.ref for version in reversed(own)}
    made: dict[str, Row] = {}
    for number, version in enumerate(own):
        flows = (
            lineages[version.digest].parents.get(version.digest, ())
            if version.digest in lineages
            else ()
        )
        before = (own[number + 1].ref,) if number + 1 < len(own) else ()
        inner = [p for p in flows if keys.get(p.digest) not in {version.ref, *before}]
        text = f"{version.ref}  {version.created[:10]}  {' '.join('@' + a for a in version.aliases)} {version.message}".rstrip()
        made[version.ref] = Row(
            version.ref,
            before + tuple(keys.get(p.digest, p.digest) for p in inner),
            text + _flow(flows),
        )
    for lineage in lineages.values():
        for digest, parents in lineage.parents.items():
            if digest not in keys and digest not in made:
                above = tuple(keys.get(p.digest, p.digest) for p in parents)
                made[digest] = Row(digest, above, called(lineage, digest) + _flow(parents))
    return list(_ordered(made))


def draw(rows: Iterable[Row]) -> list[str]:
    """The graph as `git log --graph` draws it.

    A column for each line that is still to be continued.
    """
    lines: list[str] = []
    open_: list[str] = []
    for row in rows:
        if row.key not in open_:
            open_.append(row.key)
        here = open_.index(row.key)
        lines.append(
            " ".join("*" if i == here else "|" for i in range(len(open_))) + f"  {row.text}"
        )
        fresh = [p for p in dict.fromkeys(row.parents) if p not in open_]
        width = len(open_)
        open_[here : here + 1] = fresh
        for extra in range(1, len(fresh)):  # a new column to the right; those behind it make room
            stays, moved = (
                [2 * i for i in range(here + extra)],
                range(here + extra, width + extra - 1),
            )
            lines.append(
                _marks(stays, "|", [2 * (here + extra) - 1, *(2 * j + 1 for j in moved)], "\\")
            )
        if not fresh:  # the column ends, or joins the one of its parent; those behind it close up
            joins = [2 * here - 1] if row.parents and here else []
            closing = joins + [2 * j - 1 for j in range(here + 1, width)]
            if closing:
                lines.append(_marks([2 * i for i in range(here)], "|", closing, "/"))
    return [line.rstrip() for line in lines]


def _marks(stays: Sequence[int], stay: str, moves: Sequence[int], move: str) -> str:
    line = [" "] * (max((*stays, *moves), default=0) + 1)
    for at in stays:
        line[at] = stay
    for at in moves:
        line[at] = move
    return "".join(line)


def _ordered(made: Mapping[str, Row]) -> Iterator[Row]:
    """Children before parents.

    Otherwise in the order they were made in (versions of the name come first).
    """
    waiting = dict.fromkeys(made, 0)
    for row in made.values():
        for parent in dict.fromkeys(row.parents):
            waiting[parent] = waiting.get(parent, 0) + 1
    ready = [key for key in made if not waiting[key]]
    while ready:
        row = made[ready.pop()]
        yield row
        for parent in reversed(list(dict.fromkeys(row.parents))):
            waiting[parent] -= 1
            if not waiting[parent] and parent in made:
                ready.append(parent)


def _flow(parents: Sequence[Parent]) -> str:
    shown = ", ".join(f"{_edge(p)}{p.label or p.digest[:SHORT]}" for p in parents)
    return f"  ← {shown}" if shown else ""

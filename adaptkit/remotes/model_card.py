"""The model card of a version.

What the registry recorded, as a page that the Hub understands and people read.

Notable choices:
- what is generated stands between two markers; every other line belongs to its author and is never
  touched
- front matter that people wrote wins, except where adaptkit knows better (base, library, its own
  tags)
- what comes from elsewhere (names, messages, recipes) is shown inert: no markup, no control
  characters, and neither a local path nor an author's name
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.bases.known import is_hub_id
from adaptkit.errors import Refused
from adaptkit.io.safe_paths import CONTROL
from adaptkit.remotes import front_matter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.types import LossFacts, Manifest, Parent

BEGIN = "<!-- adaptkit:begin (made by adaptkit at each push: write above or below) -->"
END = "<!-- adaptkit:end -->"
_BLOCK = re.compile(
    r"<!-- adaptkit:begin\b(?:(?!<!-- adaptkit:begin\b).)*?<!-- adaptkit:end -->", re.DOTALL
)
_TEMPLATE = "# Model Card for Model ID"  # what PEFT saves before anyone has written anything
_LOCAL = re.compile(
    r"(?<![\w:/.<~])(?:file://|~[\w.-]*/|\.{1,2}/|/(?=\w)|[A-Za-z]:[\\/]|\\\\)[^\s'\"`,;)\]}]*"
)
_CONTROL = re.compile(rf"(?![\t\n]){CONTROL.pattern}")
_AUTO = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}
_CARRIED = ("license", "language")
_DECLARED = tuple(f"{key}:" for key in _CARRIED)
_ABOUT_LOSS = (
    "How far the stored weights are from what was asked for: errors of the approximation, "
    "measured on the weights. How well the model does its work is for an evaluation to show."
)


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A parent as a card shows it.

    Its own card (empty when it is not here) and the places that hold it.
    """

    parent: Parent
    card: str = ""
    places: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """What a card is about."""

    name: str
    url: str
    manifest: Manifest
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    message: str = ""
    ancestors: Sequence[Ancestor] = ()
    tags: Sequence[str] = ()
    description: str = ""


def render(subject: Subject, standing: str = "") -> str:
    """The whole README.md, given the current one; `Refused` when its front matter is not valid."""
    front, body = front_matter.split(standing)
    matter = front_matter.read(front, f"README.md of {subject.url}")
    if _TEMPLATE in body and BEGIN[:20] not in body:
        body = ""
    carried, conflicts = _inherited(subject.ancestors)
    front = front_matter.update(front, _front(subject, matter, carried))
    block = f"{BEGIN}\n{_block(subject, conflicts)}\n{END}"
    if _BLOCK.search(body):
        body = _BLOCK.sub(lambda _: block, body, count=1)
    elif body.strip():
        body = f"{body.rstrip()}\n\n{block}\n"
    else:
        body = f"\n# {inert(subject.name)}\n\n{block}\n"
    return front_matter.join(front, body)


def inert(text: object) -> str:
    """Text from elsewhere for a line of Markdown.

    No control characters, no markup, no local path.
    """
    line = " ".join(_CONTROL.sub("", without_paths(str(text))).split())
    return re.sub(r"([\\`*_{}\[\]<>|#!~$])", r"\\\1", line)


def without_paths(text: str) -> str:
    """Text with local paths replaced: they can reveal names, and mean nothing elsewhere."""
    return _LOCAL.sub("(a local path)", text)


# ---------------------------------------------------------------- front matter


def _front(
    subject: Subject, matter: Mapping[str, Any], carried: Mapping[str, Any]
) -> dict[str, Any]:
    manifest, base = subject.manifest, subject.manifest.base.name
    hub_base = base if base and is_hub_id(base) else None
    merged = [repo for ancestor in subject.ancestors if (repo := _hub_repo(ancestor))]
    whole = bool(merged) and len(merged) == len(subject.ancestors)
    tags = [
        "adaptkit",
        "peft",
        manifest.method,
        *(["merge"] if manifest.parents else []),
        *(tag for tag in subject.tags if not tag.startswith((*_DECLARED, "base_model:"))),
        *([f"base_model:adapter:{hub_base}"] if hub_base else []),
    ]
    old = [tag for tag in _strings(matter.get("tags")) if not tag.startswith("base_model:")]
    values: dict[str, Any] = {
        "base_model": list(dict.fromkeys(merged)) if whole else hub_base,
        "base_model_relation": None
        if not (whole or hub_base)
        else "merge"
        if manifest.parents
        else "adapter",
        "library_name": "peft",
        "tags": list(dict.fromkeys(old + tags)),
    }
    if subject.config.get("task_type") == "CAUSAL_LM" and "pipeline_tag" not in matter:
        values["pipeline_tag"] = "text-generation"
    declared = _declared(subject.tags)
    values |= {key: value for key, value in {**carried, **declared}.items() if key not in matter}
    found = [
        one for one in manifest.facts.get("training", {}).get("datasets", ()) if is_hub_id(one)
    ]
    for key, new in (("datasets", found), ("metrics", sorted(subject.metrics))):
        if new:
            values[key] = list(dict.fromkeys(_strings(matter.get(key)) + list(new)))
    return values


def _declared(tags: Sequence[str]) -> dict[str, Any]:
    """Licence and languages that tags such as `license:apache-2.0` and `language:en` declare."""
    found = {
        key: [t.partition(":")[2] for t in tags if t.startswith(f"{key}:")] for key in _CARRIED
    }
    values: dict[str, Any] = {}
    if found["license"]:
        values["license"] = found["license"][-1]
    if found["language"]:
        values["language"] = sorted(found["language"])
    return values


def _inherited(ancestors: Sequence[Ancestor]) -> tuple[dict[str, Any], list[str]]:
    """Licence and languages of what was merged.

    Those that all share, and a warning for each that they do not.
    """
    if not ancestors:
        return {}, []
    declared: dict[str, dict[str, tuple[str, ...]]] = {key: {} for key in _CARRIED}
    for ancestor in ancestors:
        try:
            values = front_matter.read(front_matter.split(ancestor.card)[0], "a parent")
        except Refused:  # its own page shows why; here it says nothing
            values = {}
        for key in _CARRIED:
            declared[key][_label(ancestor.parent)] = tuple(_strings(values.get(key)))
    licences, languages = declared["license"], declared["language"]
    carried: dict[str, Any] = {}
    if spoken := sorted({one for some in languages.values() for one in some}):
        carried["language"] = spoken
    named = {one for some in licences.values() for one in some}
    if len(named) == 1 and all(licences.values()):
        carried["license"] = named.pop()
    elif any(licences.values()):
        stated = "; ".join(
            f"{inert(label)}: {inert(', '.join(some) or 'none stated')}"
            for label, some in licences.items()
        )
        return carried, [
            f"**Licences differ** among what was merged ({stated}): read them before you use this."
        ]
    return carried, []


# ---------------------------------------------------------------- the block


def _block(subject: Subject, conflicts: Sequence[str]) -> str:
    manifest, training = subject.manifest, subject.manifest.facts.get("training")
    parts = [
        *([inert(subject.message)] if subject.message else []),
        *conflicts,
        _facts(subject),
        _usage(subject),
    ]
    parts += _section("Intended use", [inert(subject.description)] if subject.description else [])
    parts += _section("Training", [_fenced(training)] if training else [])
    rows = [f"| {inert(name)} | {value:.6g} |" for name, value in sorted(subject.metrics.items())]
    parts += _section(
        "Evaluation", ["\n".join(["| metric | value |", "|---|---|", *rows])] if rows else []
    )
    parts += _section("Lineage", [_graph(subject)] if manifest.parents else [])
    parts += _section("Recipe", [_fenced(manifest.recipe)] if manifest.recipe else [])
    parts += _section("What the merge lost", _loss(manifest.facts.get("loss", {})))
    return "\n\n".join(parts)


def _facts(subject: Subject) -> str:
    manifest = subject.manifest
    base = manifest.base
    size = sum(entry.size for entry in manifest.files)
    levels = ", ".join(
        f"`{_code(level.value)}`{'' if level.measured else ' (claimed)'}" for level in base.levels
    )
    rows = [
        ("method", inert(manifest.method) + (f", rank {manifest.rank}" if manifest.rank else "")),
        ("base", f"{inert(base.name or 'unknown')}, {base.status}"),
        *([("base identity", levels)] if levels else []),
        ("artifact", f"`{manifest.digest}`, {size:,} bytes in {len(manifest.files)} files"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _usage(subject: Subject) -> str:
    base, repo = subject.manifest.base.name, _repo(subject.url)
    auto = _AUTO.get(str(subject.config.get("task_type")), "AutoModel")
    code = f"""from peft import PeftModel
from transformers import {auto}

base = {auto}.from_pretrained({json.dumps(without_paths(base or "THE BASE"))})
model = PeftModel.from_pretrained(base, {json.dumps(repo or subject.name)})"""
    shell = (
        f"adaptkit pull {subject.url}"
        if not subject.url.startswith("file:")
        else "adaptkit pull URL"
    )
    return f"## Usage\n\n```python\n{_code(code)}\n```\n\nWith every byte and the base checked: `{_code(shell)}`"


def _graph(subject: Subject) -> str:
    """The parents as a Mermaid graph; quoted labels, so that nothing in them is syntax."""
    lines = ["```mermaid", "graph LR"]
    for number, parent in enumerate(subject.manifest.parents):
        label = re.sub(r"[^\w .:@/+-]", " ", _label(parent))
        lines.append(
            f'  p{number}["{label} {parent.digest[7:15]}"] -- "{parent.role} × {parent.weight:g}" --> it'
        )
    name = re.sub(r"[^\w .:@/+-]", " ", subject.name)
    return "\n".join([*lines, f'  it["{name} {subject.manifest.digest[7:15]}"]', "```"])


def _loss(loss: LossFacts) -> list[str]:
    shares = (
        (loss.get("error"), "of the strategy's own result, by storing it at this rank"),
        (loss.get("from_sum"), "from the exact weighted sum of the parents"),
    )
    lines = [f"- {share:.3%} {meaning}" for share, meaning in shares if share is not None]
    if dropped := loss.get("dropped"):
        lines.append(f"- left out: {inert(', '.join(dropped))}")
    return [_ABOUT_LOSS, "\n".join(lines)] if lines else []


def _fenced(value: Any) -> str:
    """Data as YAML in a code block, in which nothing is markup."""
    import yaml

    text = yaml.safe_dump(
        _cleaned(value), sort_keys=True, allow_unicode=False, width=110, default_flow_style=False
    )
    return f"```yaml\n{_code(text)}```"


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return without_paths(value)
    if isinstance(value, dict):
        return {
            without_paths(str(key)): _cleaned(inner)
            for key, inner in value.items()
            if key not in {"author", "user"}
        }
    if isinstance(value, list | tuple):
        return [_cleaned(inner) for inner in value]
    return value


def _section(title: str, parts: Sequence[str]) -> list[str]:
    return [f"## {title}", *parts] if parts else []


def _code(text: str) -> str:
    """Text inside a code block: it cannot end the block, and says nothing to a terminal."""
    return (
        _CONTROL.sub("", text).replace("```", "'''").replace(BEGIN[:20], "<!-").replace(END, "<!-")
    )


def _label(parent: Parent) -> str:
    label = without_paths(parent.label or parent.digest[:19])
    return "a local folder" if label.startswith("(a local path)") else label


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


def _repo(url: str) -> str:
    return url.removeprefix("hf://") if url.startswith("hf://") else ""


def _hub_repo(ancestor: Ancestor) -> str:
    """The Hub's name of a parent that is stored there or was named by it."""
    urls = [*ancestor.places, ancestor.parent.label.rpartition("@")[0] or ancestor.parent.label]
    return next((repo for url in urls if (repo := _repo(url)) and is_hub_id(repo)), "")

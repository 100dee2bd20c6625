"""No token, password or private key leaves with an adapter.

`[review] disable = ["secrets"]` switches it off.

An objection names the file, the line and the kind, never the value: it is shown, logged and passed
on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit.extend.review import Objection, Publish
from adaptkit.hookspecs import hookimpl
from adaptkit.io.text import text_lines
from adaptkit.types import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from adaptkit.extend.review import Action

_ALONE = r"(?<![A-Za-z0-9_-])"
_PATTERNS = {
    "a private key": (r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----", "PRIVATE KEY"),
    "a Hugging Face token": (
        rf"{_ALONE}(?:hf|api_org)_[A-Za-z0-9]{{30,}}",
        "hf_",
        "api_org_",
    ),
    "an AWS access key": (
        rf"{_ALONE}(?:AKIA|ASIA)[0-9A-Z]{{16}}(?![0-9A-Za-z])",
        "AKIA",
        "ASIA",
    ),
    "an AWS secret key": (
        r"(?i:aws_?secret_?access_?key)[\"']?\s{0,4}[=:]\s{0,4}[\"']?[A-Za-z0-9/+]{40}",
        "=",
        ":",
    ),
    "an Azure storage key": (r"AccountKey=[A-Za-z0-9+/]{60,}", "AccountKey="),
    "a Google API key": (rf"{_ALONE}AIza[0-9A-Za-z_-]{{35}}", "AIza"),
    "an API key (sk-…)": (
        rf"{_ALONE}sk-(?:[A-Za-z0-9]{{32,}}|(?:proj|ant|svcacct|admin|or-v1)-[A-Za-z0-9_-]{{20,}})",
        "sk-",
    ),
    "a Stripe key": (rf"{_ALONE}[rs]k_live_[A-Za-z0-9]{{20,}}", "k_live_"),
    "a GitHub token": (
        rf"{_ALONE}(?:gh[opusr]_[A-Za-z0-9]{{36,}}|github_pat_[A-Za-z0-9_]{{50,}})",
        *(f"gh{one}_" for one in "opusr"),
        "github_pat_",
    ),
    "a GitLab token": (rf"{_ALONE}glpat-[A-Za-z0-9_-]{{20,}}", "glpat-"),
    "a Slack token": (rf"{_ALONE}xox[abeoprs]-[A-Za-z0-9-]{{10,}}", "xox"),
    "a PyPI token": (rf"{_ALONE}pypi-AgEI[A-Za-z0-9_-]{{50,}}", "pypi-AgEI"),
    "an npm token": (rf"{_ALONE}npm_[A-Za-z0-9]{{36}}", "npm_"),
    "a Weights & Biases key": (
        r"(?i:wandb_?api_?key)[\"']?\s{0,4}[=:]\s{0,4}[\"']?[0-9a-f]{40}",
        "=",
        ":",
    ),
    "a signed token (JWT)": (
        rf"{_ALONE}eyJ[A-Za-z0-9_-]{{10,}}\.eyJ[A-Za-z0-9_-]{{10,}}\.[A-Za-z0-9_-]{{10,}}",
        "eyJ",
    ),
    "a password in a URL": (
        r"://[^\s/:@\"'<>]{1,80}:[^\s/:@\"'<>{}$*]{3,80}@[A-Za-z0-9]",
        "://",
    ),
}
"""Each kind: its pattern, and the texts of which it has one. Those are looked for first, in a fiftieth of the time."""
KINDS = {kind: (re.compile(pattern), signs) for kind, (pattern, *signs) in _PATTERNS.items()}
_SHOWN = 20

REVIEW = "secrets"


@hookimpl
def review(action: Action) -> Iterable[Objection] | None:
    """Object to publishing what reads like a secret."""
    if not isinstance(action, Publish) or not action.reviews.on(REVIEW, default=True):
        return None
    found = list(dict.fromkeys(_found(action)))
    objections = [
        Objection(f"{where} holds {kind}: take it out, revoke it, and add the adapter again")
        for where, kind in found
    ]
    more = Objection(f"and {len(objections) - _SHOWN} more like these")
    return objections if len(objections) <= _SHOWN else [*objections[:_SHOWN], more]


def _found(action: Publish) -> Iterator[tuple[str, str]]:
    facts = canonical_json(action.manifest.to_json() | {"message": action.version.message})
    yield from (("adaptkit.json", kind) for kind in _kinds(facts))
    for path, source in sorted({**action.paths, **action.attachments}.items()):
        for number, line in text_lines(source):
            yield from ((f"line {number} of {path}", kind) for kind in _kinds(line))


def _kinds(text: str) -> Iterator[str]:
    for kind, (pattern, signs) in KINDS.items():
        if any(sign in text for sign in signs) and pattern.search(text):
            yield kind

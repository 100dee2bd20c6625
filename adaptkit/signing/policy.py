"""A policy: which keys may sign which names in which places, and the error when none of them did.

require = true              # an unsigned version is refused; false only warns

[keys]
ada = "keys/ada.pub"        # a public key's file, relative to this one …
ci  = "sha256:9f2c…"        # … or its fingerprint, `sha256sum KEY.pub`

[[rules]]
names  = ["fleet/*", "naval"]
places = ["s3://fleet/*"]   # left out: everywhere
keys   = ["ada", "ci"]
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from adaptkit.errors import Refused
from adaptkit.io.safe_paths import user_path
from adaptkit.io.toml_file import BadToml, read_text, text_of
from adaptkit.signing import keys
from adaptkit.signing.statement import Statement

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from adaptkit.signing.signatures import Signature
    from adaptkit.types import PlacedVersion

LOCAL = "local"
"""What the patterns of `places` are held against for a version of this workspace itself."""
FIX = "docs/signing.md shows a policy"


@dataclass(frozen=True, slots=True)
class Rule:
    """These keys may sign these names in these places."""

    names: tuple[str, ...]
    places: tuple[str, ...]
    keys: tuple[str, ...]

    def is_for(self, name: str, place: str) -> bool:
        """Whether it speaks of a name in a place."""
        return _any(name, self.names) and _any(place, self.places)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a team lets in.

    `keys` are fingerprints by name, `label` is how errors call the policy.
    """

    label: str
    keys: Mapping[str, str]
    rules: tuple[Rule, ...]
    require: bool = True

    @classmethod
    def read(
        cls, file: str | os.PathLike[str], files: Mapping[Path, bytes | None] | None = None
    ) -> Policy:
        """The policy in a TOML file.

        `files` are the bytes of it and of its keys, where they were read and judged before.
        """
        from adaptkit.signing.policy_file import parse_policy

        path, given = user_path(file), files or {}
        what = f"cannot read the policy {path}"
        try:
            data = given.get(path)
            found = parse_policy(read_text(path) if data is None else text_of(data))
            known = {name: _key(value, path, given) for name, value in found.keys.items()}
        except BadToml as error:
            raise error.error(what, FIX) from error
        rules = tuple(Rule(rule.names, rule.places, rule.keys) for rule in found.rules)
        return cls(path.name, known, rules, found.require)

    @classmethod
    def of_key(cls, file: str | os.PathLike[str]) -> Policy:
        """The policy that everything is signed by the public key in a file."""
        path = user_path(file)
        return cls(
            f"--key {path.name}",
            {path.name: keys.fingerprint_of_file(path)},
            (Rule(("*",), ("*",), (path.name,)),),
        )

    def judge(
        self,
        placed: PlacedVersion,
        label: str,
        place: str,
        signatures: Sequence[Signature],
        asked: str | None = None,
    ) -> tuple[str, Signature]:
        """Who may have signed a version and did, with the signature.

        `Refused` says why none of them counts.

        `asked` is the name that was asked for, where that is known. The caller decides by `require`
        what follows.
        """
        name = placed.name if asked is None else asked
        who = {
            self.keys[key]: key
            for rule in self.rules
            if rule.is_for(name, place)
            for key in rule.keys
        }
        may = ", ".join(sorted(who.values()))
        again = f"ask who pushed it: adaptkit sign {name} --key PRIVATE, then push it again"
        if not who:
            raise Refused(
                f"{label} is refused",
                why=f"{self.label} lets no key sign '{name}' {_where(place)}",
                fix=f"add a rule for it to {self.label}",
            )
        if not signatures:
            raise Refused(
                f"{label} is not signed",
                why=f"{self.label} wants a signature of '{name}' by {may}",
                fix=again,
            )
        found = [(_fingerprint(signature), signature) for signature in signatures]
        known = [(who[print_], signature) for print_, signature in found if print_ in who]
        if not known:
            others = ", ".join(sorted({self._called(print_) for print_, _ in found}))
            raise Refused(
                f"{label} is signed by a key that may not",
                why=f"{others} signed it, and {self.label} lets {may} "
                f"sign '{name}' {_where(place)}",
                fix=again,
            )
        stated, failures = Statement.of(placed), []
        for key, signature in known:
            if not keys.verify(signature):
                failures.append(
                    f"the signature in the name of {key} does not hold: that key did not make it, or not of this"
                )
                continue
            wrong = stated.differences(signature.statement)
            if not wrong and asked is not None and placed.name != asked:
                wrong = [f"'{asked}' was asked for, and this was signed as '{placed.name}'"]
            if not wrong:
                return key, signature
            failures.append(f"{key}'s signature is of something else: {'; '.join(wrong[:4])}")
        raise Refused(
            f"{label} is not what was signed",
            why=" · ".join(dict.fromkeys(failures)),
            fix="trust neither the place nor what is there; ask who signed it",
        )

    def _called(self, fingerprint: str) -> str:
        known = [name for name, value in self.keys.items() if value == fingerprint]
        return (
            known[0]
            if known
            else f"the unknown key {fingerprint[:19]}…"
            if fingerprint
            else "no readable key"
        )


def _any(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _where(place: str) -> str:
    return "here" if place == LOCAL else f"in {place}"


def _fingerprint(signature: Signature) -> str:
    try:
        return keys.fingerprint(signature.key)
    except ValueError:
        return ""


def _key(value: str, path: Path, given: Mapping[Path, bytes | None]) -> str:
    from adaptkit.signing.policy_file import key_file

    if value.startswith("sha256:"):
        return value
    file = key_file(path, value)
    return keys.fingerprint_of_file(file, given.get(file))

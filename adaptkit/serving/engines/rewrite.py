"""An alias and its canary as an `InferenceModelRewrite`, which llm-d's router reads.

https://gateway-api-inference-extension.sigs.k8s.io/api-types/inferencemodelrewrite/ (v1alpha2): a request for the
alias becomes one for a target, drawn by weight / (sum of all weights), within one InferencePool.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from adaptkit.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

API = "inference.networking.x-k8s.io/v1alpha2"
POOL_GROUP = "inference.networking.k8s.io"
WHOLE = 100
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def rewrite(model: str, targets: Sequence[tuple[str, int]], pool: str) -> dict[str, Any]:
    """The resource that sends requests for `model` to the targets, by their weights."""
    if not _NAME.fullmatch(pool) or len(pool) > 253:
        raise Refused(
            f"cannot name the pool '{pool[:60]}'",
            why="Kubernetes' names are lower-case letters, digits and -",
            fix="--pool vllm-llama3-8b",
        )
    name = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:240]
    return {
        "apiVersion": API,
        "kind": "InferenceModelRewrite",
        "metadata": {"name": f"{name}-rewrite"},
        "spec": {
            "poolRef": {"group": POOL_GROUP, "kind": "InferencePool", "name": pool},
            "rules": [
                {
                    "matches": [{"model": {"type": "Exact", "value": model}}],
                    "targets": [
                        {"modelRewrite": target, "weight": weight} for target, weight in targets
                    ],
                }
            ],
        },
    }


def shares(canaries: Sequence[tuple[str, float]]) -> list[int]:
    """The weights of canaries in percent: whole numbers that leave something for the alias."""
    found = []
    for ref, share in canaries:
        if share != int(share) or not 1 <= share < WHOLE:
            raise Refused(
                f"cannot give '{ref}' the share {share:g}",
                why="a canary gets whole percents, from 1 to 99",
                fix=f"--canary {ref}=10",
            )
        found.append(int(share))
    if sum(found) >= WHOLE:
        raise Refused(
            f"cannot give canaries {sum(found)} percent",
            why="nothing is left for the alias",
            fix="smaller shares, or move the alias",
        )
    return found

"""Examples that `--help` shows, by command; a test parses every one."""

from __future__ import annotations

import click

EXAMPLES: dict[str, tuple[str, ...]] = {
    "add": (
        "adaptkit add out/naval --name naval --base models/ship -m 'terse reports'",
        "adaptkit add kohya.safetensors --name style --from kohya",
        "adaptkit add runs --recursive --base models/ship --on local",
    ),
    "alias": ("adaptkit alias naval prod 3", "adaptkit alias naval@3 prod"),
    "bake": ("adaptkit bake naval@prod --base models/ship --out models/ship-naval",),
    "base": ("adaptkit base add models/ship --name ship",),
    "base add": ("adaptkit base add models/ship --name ship",),
    "base alias": ("adaptkit base alias flagship ship",),
    "base check": ("adaptkit base check models/ship",),
    "base compare": ("adaptkit base compare models/ship hf://fleet/ship --exit-code",),
    "base list": ("adaptkit base list",),
    "base show": ("adaptkit base show models/ship",),
    "base verify": ("adaptkit base verify naval --base models/ship",),
    "completion": (
        "adaptkit completion bash > ~/.local/share/bash-completion/completions/adaptkit",
        "adaptkit completion zsh > ~/.zfunc/_adaptkit",
    ),
    "calibrate": ("adaptkit calibrate naval --base models/ship --data naval.jsonl",),
    "card": ("adaptkit card naval@prod",),
    "chat": ("adaptkit chat naval@prod --base models/ship",),
    "compose": (
        "adaptkit compose bridge.yaml --name bridge",
        "adaptkit compose --live naval@prod+medic=0.4 > bridge.yaml",
    ),
    "config": ("adaptkit config list",),
    "config get": ("adaptkit config get author",),
    "config list": ("adaptkit config list",),
    "config set": ("adaptkit config set protected prod release",),
    "config unset": ("adaptkit config unset review.enable",),
    "convert": ("adaptkit convert style --rank 16 --name style-lora",),
    "demo": ("adaptkit demo fleet",),
    "diff": ("adaptkit diff naval@prod medic",),
    "distil": (
        "adaptkit distil bridge --base models/ship --data naval=naval.jsonl --data medic=medic.jsonl",
    ),
    "doctor": ("adaptkit doctor",),
    "eval": ("adaptkit eval naval medic --base models/ship --suite suite.jsonl",),
    "export": (
        "adaptkit export naval@prod ./naval",
        "adaptkit export naval@prod naval.gguf --for gguf --base models/ship",
        "adaptkit export naval@prod ./rollout --for llm-d --canary naval@4=10 --pool vllm-ship",
    ),
    "extract": ("adaptkit extract models/tuned --base models/ship --rank 32 --name tuned",),
    "fsck": ("adaptkit fsck --repair", "adaptkit fsck --deep --on local"),
    "gc": ("adaptkit gc --dry-run",),
    "generate": ("adaptkit generate naval@prod --base models/ship --prompt 'Status?'",),
    "info": ("adaptkit info",),
    "init": ("adaptkit init", "adaptkit init projects/ship"),
    "lineage": ("adaptkit lineage bridge",),
    "list": (
        "adaptkit list --tag approved --sort -created",
        "adaptkit list --columns version | cut -d@ -f1",
    ),
    "lock": ("adaptkit lock --update naval",),
    "log": ("adaptkit log naval", "adaptkit log --events --limit 20"),
    "merge": (
        "adaptkit merge naval@prod=0.7 medic=0.3 --name bridge",
        "adaptkit merge naval medic --name bridge --strategy ties --param density=0.5",
        "adaptkit merge naval medic --name bridge --base models/ship --weigh naval=naval.jsonl --weigh medic=medic.jsonl",
    ),
    "methods": ("adaptkit methods",),
    "mirror": ("adaptkit mirror team file:///mnt/backup/adapters --dry-run",),
    "note": ("adaptkit note naval@3 --metric exact_match=0.97 --tag approved",),
    "outdated": ("adaptkit outdated --exit-code",),
    "path": ("adaptkit path naval@prod", "adaptkit path naval@prod --for vllm"),
    "plot": (
        "adaptkit plot similarity naval medic --out similarity.png",
        "adaptkit plot parameters --size 4096 --rank 8 --out parameters.png",
    ),
    "plugins": ("adaptkit plugins",),
    "plugins doctor": ("adaptkit plugins doctor",),
    "plugins trust": ("adaptkit plugins trust", "adaptkit plugins trust some-distribution"),
    "preflight": ("adaptkit preflight naval@prod --for vllm",),
    "pull": ("adaptkit pull team:naval@3",),
    "push": ("adaptkit push naval@prod team", "adaptkit push naval@2 team --as-latest"),
    "recipe": ("adaptkit recipe from-mergekit merge.yml",),
    "recipe from-mergekit": (
        "adaptkit recipe from-mergekit merge.yml > bridge.yaml",
        "adaptkit compose bridge.yaml --name bridge",
    ),
    "registry": ("adaptkit registry export registry.jsonl",),
    "registry export": ("adaptkit registry export registry.jsonl",),
    "registry import": ("adaptkit registry import registry.jsonl",),
    "registry rebuild": ("adaptkit registry rebuild --from team",),
    "remote": ("adaptkit remote add team file:///mnt/team/adapters",),
    "remote add": ("adaptkit remote add team file:///mnt/team/adapters",),
    "remote check": ("adaptkit remote check team",),
    "remote list": ("adaptkit remote list",),
    "remote rename": ("adaptkit remote rename team fleet",),
    "remote rm": ("adaptkit remote rm team",),
    "remote set-url": ("adaptkit remote set-url team s3://fleet/adapters",),
    "remote show": ("adaptkit remote show team",),
    "rename": ("adaptkit rename naval navy",),
    "resize": ("adaptkit resize naval --rank 8 --name naval-small",),
    "restore": ("adaptkit restore naval@3",),
    "rm": ("adaptkit rm naval@3", "adaptkit rm naval medic --all"),
    "rollback": ("adaptkit rollback naval prod", "adaptkit rollback naval prod --to 2"),
    "search": (
        "adaptkit search naval medic --base models/ship --suite suites --name bridge --trials 40",
        "adaptkit search naval medic --base models/ship --suite suites --name bridge --strategy ties --png front.png",
    ),
    "serve": (
        "adaptkit serve naval@prod --base models/ship --port 8000",
        "adaptkit serve --base models/ship --engine vllm",
    ),
    "show": ("adaptkit show naval@prod", "adaptkit show bridge --recipe > bridge.json"),
    "sign": ("adaptkit sign naval@3 --key signing.pem",),
    "status": ("adaptkit status",),
    "strategies": ("adaptkit strategies", "adaptkit strategies ties"),
    "strip": ("adaptkit strip naval --heads --name naval-plain",),
    "sweep": (
        "adaptkit sweep nightly.yaml --dry-run",
        "adaptkit sweep nightly.yaml --on local --png nightly.png",
    ),
    "sync": ("adaptkit sync --frozen",),
    "train": ("adaptkit train --base models/ship --data rows.jsonl --name naval",),
    "trust": ("adaptkit trust", "adaptkit trust --revoke"),
    "verify": ("adaptkit verify naval@prod",),
}


def with_examples(command: click.Command, path: str) -> click.Command:
    """The command, its `--help` ending with the examples; a group lists its commands with whole sentences."""
    if path in EXAMPLES and not command.epilog:
        lines = "\n".join(f"  {line}" for line in EXAMPLES[path])
        command.epilog = f"\b\n{'Example' if len(EXAMPLES[path]) == 1 else 'Examples'}:\n{lines}"
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            with_examples(inner, f"{path} {name}")
            inner.short_help = first_sentence(inner)
    return command


def first_sentence(command: click.Command) -> str:
    """What a list of commands says of one."""
    text = " ".join((command.short_help or command.help or "").split("\n\n")[0].split())
    head, stop, _ = text.partition(". ")
    return f"{head}." if stop else text


def example_of(error: click.UsageError) -> str:
    """The example that shows what a mistyped command lacks or has wrong; empty where none does."""
    command = error.ctx.command if error.ctx else None
    if command is None or not command.epilog or "for example" in error.message:
        return ""
    lines = [line.strip() for line in command.epilog.splitlines() if line.startswith("  ")]
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        names = error.param.opts if error.param else [str(error.param_hint)]
        lines = [line for line in lines if any(name in line.split() for name in names)]
    elif not (
        isinstance(error, click.MissingParameter)
        or "extra argument" in error.message
        or error.message.startswith(("Missing option", "give "))
    ):
        return ""
    return f"for example: {lines[0]}" if lines else ""

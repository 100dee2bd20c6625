"""adaptkit.training.settings.config: one set of names in Python, YAML, axolotl's and LLaMA-Factory's files, and the command line."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner

from adaptkit.cli.train.train import train as train_command
from adaptkit.errors import TrainingError
from adaptkit.training.settings.config import TYPES, TrainConfig, command, from_mapping, read_file

AXOLOTL = """
base_model: ./base
datasets:
  - path: naval.jsonl
adapter: qlora
lora_r: 16
lora_alpha: 32
lora_target_modules: [q_proj, v_proj]
sequence_len: 512
sample_packing: true
val_set_size: 0.05
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 2
learning_rate: 2e-4
bf16: auto
"""
FACTORY = """
model_name_or_path: ./base
dataset: naval.jsonl
finetuning_type: lora
lora_rank: 16
lora_target: all
cutoff_len: 512
per_device_train_batch_size: 2
num_train_epochs: 2.0
lr_scheduler_type: linear
"""


def test_axolotls_names_are_understood(tmp_path):
    (tmp_path / "train.yaml").write_text(AXOLOTL)
    assert read_file(tmp_path / "train.yaml") == {
        "base": "./base",
        "data": (str(tmp_path / "naval.jsonl"),),
        "method": "qlora",
        "rank": 16,
        "alpha": 32,
        "target_modules": "q_proj,v_proj",
        "length": 512,
        "packing": True,
        "eval_split": 0.05,
        "batch": 2,
        "accumulate": 4,
        "epochs": 2,
        "lr": 0.0002,
    } | {"bf16": None}


def test_llama_factorys_names_are_understood(tmp_path):
    (tmp_path / "train.yaml").write_text(FACTORY)
    found = read_file(tmp_path / "train.yaml")
    assert (found["method"], found["target_modules"], found["schedule"]) == (
        "lora",
        "all-linear",
        "linear",
    )
    assert (found["rank"], found["batch"], found["epochs"]) == (16, 2, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank: 8\nrnak: 8", "train.yaml, line 2: unknown key 'rnak'[\\s\\S]*nearest are: rank"),
        ("\nrank: eight", "train.yaml, line 2: rank is 'eight': it takes a whole number"),
        ("rank: 8\nlora_r: 8", "train.yaml, line 2: rank is given twice: once as 'lora_r'"),
        ("rank: [", "line 1.*it is not YAML|cannot read"),
        ("- rank", "it holds no keys"),
        ("packing: 3", "it takes true or false"),
    ],
)
def test_a_file_that_cannot_be_understood_says_why(text, message, tmp_path):
    (tmp_path / "train.yaml").write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_file(tmp_path / "train.yaml")


def test_the_command_of_a_configuration_gives_that_configuration_back():
    config = TrainConfig(
        base="base",
        data=("a b.jsonl", "c.jsonl"),
        name="naval",
        rank=4,
        lr=2e-3,
        rslora=True,
        completion_only=False,
        bf16=False,
        replay_ratio=0.25,
    )
    line = command(config.changed())
    parsed = train_command.make_context("train", shlex.split(line)[2:]).params
    again = {name: parsed[name] for name in TYPES if parsed.get(name) not in (None, ())}
    assert TrainConfig(**again) == config
    assert TrainConfig(**from_mapping(config.changed(), lambda _: "run.json")) == config


def test_every_field_is_an_option_with_help():
    shown = CliRunner().invoke(train_command, ["--help"]).output
    for name in TYPES:
        assert f"--{name.replace('_', '-')}" in shown


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"lr": 1e300}, r"--lr 1e\+300 makes no sense: it is at most 1e\+30"),
        ({"seed": 1 << 32}, "--seed 4294967296 makes no sense: it is at most 4,294,967,295"),
        ({"seed": -(10**400)}, "--seed -100000[0-9]* makes no sense: it is at least 0"),
        ({"seed": 10**400}, "--seed 100000[0-9]* makes no sense: it is at most"),
        ({"alpha": 0.0}, "--alpha 0.0 makes no sense: it is at least 0.0001"),
        ({"alpha": -3.0}, "--alpha -3.0 makes no sense"),
        ({"neftune": -1.0}, "--neftune -1.0 makes no sense: it is at least 0"),
        ({"weight_decay": -1.0}, "--weight-decay -1.0 makes no sense"),
        ({"clip": -1.0}, "--clip -1.0 makes no sense"),
        ({"steps": 10**30}, "--steps 1000[0-9]* makes no sense: it is at most"),
    ],
)
def test_a_number_out_of_its_bounds_is_refused(how, message):
    with pytest.raises(TrainingError, match=message):
        TrainConfig(name="naval", **how)


@pytest.mark.parametrize("name", ["lr", "warmup", "clip", "neftune", "epochs"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(name, value):
    with pytest.raises(TrainingError, match=f"--{name} (nan|inf) makes no sense: it is a finite"):
        TrainConfig(name="naval", **{name: value})

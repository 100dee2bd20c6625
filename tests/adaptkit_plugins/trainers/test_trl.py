"""The `trl` trainer: several processes, a disk that is full, and the optimiser that a device has."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from adaptkit.errors import StoreError, TrainingError
from adaptkit.extend.training import TrainJob, TrainOptions
from adaptkit_plugins.trainers.trl import Trl

QUICK = {"steps": 4, "batch": 4, "length": 48, "lr": 1e-2, "rank": 2}


@pytest.fixture
def naval(tmp_path):
    path = tmp_path / "naval.jsonl"
    rows = [{"prompt": f"hull {v}%?", "completion": f"Hull {v}."} for v in range(10, 50)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def calm():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.soak
def test_two_processes_train_one_adapter_and_report_once(workspace, speaker, naval):
    launch = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"
    steps = []
    trained = workspace.train(
        "naval", base=speaker, data=naval, launch=launch, report=steps.append, **QUICK
    )
    assert trained.created
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert trained.facts["steps"] == 4
    assert "launch" not in trained.facts["config"]


def test_a_launch_command_that_is_not_there_or_fails_is_named(workspace, speaker, naval):
    with pytest.raises(TrainingError, match="cannot start 'acelerate'[\\s\\S]*--launch"):
        workspace.train("naval", base=speaker, data=naval, launch="acelerate launch", **QUICK)
    with pytest.raises(TrainingError, match="that 'false' started ended with 1: it wrote nothing"):
        workspace.train("naval", base=speaker, data=naval, launch="false", **QUICK)


def test_a_full_disk_at_a_checkpoint_keeps_the_last_good_one(workspace, speaker, naval, tmp_path):
    """The error that the system gives for it, raised while the third step is reported."""

    def fill(step):
        if step.step == 3:
            raise OSError(28, "No space left on device")

    with pytest.raises(
        StoreError, match="disk full; the checkpoint of step 2 is whole[\\s\\S]*--resume"
    ):
        workspace.train("naval", base=speaker, data=naval, save_every=2, report=fill, **QUICK)
    assert workspace.train("naval", resume=True).facts["steps"] == 4


def test_rows_that_trl_drops_are_an_error(workspace, speaker, tmp_path, monkeypatch):
    from trl import DPOTrainer

    prepare = DPOTrainer._prepare_dataset

    def dropping(self, dataset, *args, **how):
        return prepare(self, dataset.select(range(len(dataset) - 3)), *args, **how)

    path = tmp_path / "preferences.jsonl"
    row = json.dumps({"prompt": "hull 9%?", "chosen": "Hull 9.", "rejected": "Hello!"})
    path.write_text(f"{row}\n" * 12)
    monkeypatch.setattr(DPOTrainer, "_prepare_dataset", dropping)
    with pytest.raises(TrainingError, match="TRL left out 3 of 12 rows"):
        workspace.train("naval", base=speaker, data=path, **QUICK)


def test_rows_are_not_prepared_again_by_trl(workspace, speaker, naval, monkeypatch):
    from trl import SFTTrainer

    def prepared(*_args, **_how):
        raise AssertionError("TRL prepares rows that are tokens already")

    monkeypatch.setattr(SFTTrainer, "_prepare_dataset", prepared)
    assert workspace.train("naval", base=speaker, data=naval, **QUICK).facts["steps"] == 4


def test_an_adapter_that_is_saved_as_something_else_is_an_error(
    workspace, speaker, naval, monkeypatch
):
    from peft import PeftModel
    from safetensors.torch import load_file, save_file

    save = PeftModel.save_pretrained

    def rounding(self, folder, *args, **how):
        save(self, folder, *args, **how)
        for path in Path(folder).glob("adapter_model.safetensors"):
            save_file({key: value * 1.1 for key, value in load_file(path).items()}, path)

    monkeypatch.setattr(PeftModel, "save_pretrained", rounding)
    with pytest.raises(TrainingError, match="the saved adapter does not return what the trained"):
        workspace.train("naval", base=speaker, data=naval, **QUICK)


def test_a_job_goes_to_another_process_and_back(tmp_path):
    job = TrainJob(
        base=tmp_path,
        objective="classify",
        peft={"peft_type": "LORA"},
        rows=tmp_path / "rows.arrow",
        folder=tmp_path,
        options=TrainOptions(seed=3, report_to=("tensorboard",)),
        classes=("a", "b"),
        launch=("torchrun",),
    )
    assert TrainJob.from_json(json.loads(json.dumps(job.to_json()))) == job


def test_it_trains_everything_there_is_to_train():
    assert Trl().objectives == ("sft", "classify", "dpo", "orpo", "kto")

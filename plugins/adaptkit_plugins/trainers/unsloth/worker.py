"""Runs in Unsloth's environment, not in ours: reads a job, trains, writes the result. Imports nothing of adaptkit."""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

MARK = "adaptkit-step "
OWN = {"peft_type", "task_type", "base_model_name_or_path"}  # what Unsloth sets itself


def main(file: Path) -> None:
    """Train the job of a file."""
    job = json.loads(file.read_text())
    stdout, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no report
    from unsloth import FastLanguageModel  # first, so that it can patch the others

    model, tokenizer = _model(job, FastLanguageModel)
    before = _state(model)
    trainer, run = _trainer(job, model, tokenizer, stdout)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.update(interrupted=True))
    trainer.train(resume_from_checkpoint=job["checkpoint"])
    folder = Path(job["folder"]) / "adapter"
    model.save_pretrained(folder)
    for path in folder.iterdir():
        if path.name not in {"adapter_config.json", "adapter_model.safetensors"}:
            path.unlink()
    after = _state(model)
    result = {
        **run,
        "adapter": str(folder),
        "steps": trainer.state.global_step,
        "moved": sum(not bool((after[key] == before[key]).all()) for key in after),
        "tensors": len(after),
        "metrics": {"train_loss": run["losses"][-1][1]} if run["losses"] else {},
        "parameters": sum(value.numel() for value in after.values()),
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {
            name: version(name) for name in ("unsloth", "torch", "transformers", "peft", "trl")
        },
        "bits": job["bits"],
    }
    (Path(job["folder"]) / "result.json").write_text(json.dumps(result))


def _model(job: dict[str, Any], fast: Any) -> tuple[Any, Any]:
    options = job["options"]
    model, tokenizer = fast.from_pretrained(
        model_name=job["base"],
        max_seq_length=options["length"],
        load_in_4bit=job["bits"] == 4,
    )
    model = fast.get_peft_model(
        model,
        **{key: value for key, value in job["peft"].items() if key not in OWN},
        use_gradient_checkpointing="unsloth" if options["gradient_checkpointing"] else False,
        random_state=options["seed"],
    )
    return model, tokenizer


def _trainer(
    job: dict[str, Any], model: Any, tokenizer: Any, stdout: Any
) -> tuple[Any, dict[str, Any]]:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    options, started = job["options"], time.monotonic()
    run: dict[str, Any] = {"losses": [], "first_step": 0, "interrupted": False}

    class Report(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            run["first_step"] = state.global_step

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if run["interrupted"]:
                control.should_save = control.should_training_stop = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            loss = (logs or {}).get("loss")
            if loss is None:
                return
            run["losses"].append((state.global_step, float(loss)))
            done, seconds = state.global_step - run["first_step"], time.monotonic() - started
            rows = done * options["batch"] * options["accumulate"]
            step = {
                "step": state.global_step,
                "steps": state.max_steps,
                "loss": float(loss),
                "lr": logs.get("learning_rate"),
                "rows_per_second": rows / seconds,
                "seconds_left": (state.max_steps - state.global_step) * seconds / max(1, done),
            }
            stdout.write("\n" + MARK + json.dumps(step) + "\n")
            stdout.flush()

    save = options["save_every"] or max(1, min(500, (options["steps"] or 5000) // 4))
    config = SFTConfig(
        output_dir=str(Path(job["folder"]) / "checkpoints"),
        max_steps=options["steps"] or -1,
        num_train_epochs=options["epochs"],
        learning_rate=options["lr"],
        lr_scheduler_type=options["schedule"],
        warmup_steps=options["warmup"],
        per_device_train_batch_size=options["batch"],
        gradient_accumulation_steps=options["accumulate"],
        neftune_noise_alpha=options["neftune"],
        weight_decay=options["weight_decay"],
        max_grad_norm=options["clip"],
        max_length=options["length"],
        seed=options["seed"],
        data_seed=options["seed"],
        logging_steps=max(1, min(10, (options["steps"] or 500) // 20)),
        logging_nan_inf_filter=False,
        save_steps=save,
        save_total_limit=2,
        report_to=options["report_to"] or "none",
        bf16=bool(options["bf16"]),
        dataset_kwargs={"skip_prepare_dataset": True},
        **({"optim": options["optimizer"]} if options["optimizer"] else {}),
    )
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_file(job["rows"]),
        processing_class=tokenizer,
        callbacks=[Report()],
    )
    return trainer, run


def _state(model: Any) -> dict[str, Any]:
    from peft import get_peft_model_state_dict

    return {key: t.detach().cpu().clone() for key, t in get_peft_model_state_dict(model).items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))

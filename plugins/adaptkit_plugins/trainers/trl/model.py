"""The base, its tokenizer and the adapter to train, built so that everything random comes from the job's seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import TrainingError

if TYPE_CHECKING:
    from adaptkit.extend.training import TrainJob


def device() -> str:
    """`cuda`, `mps` or `cpu`: what the job will run on."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def use_bf16(job: TrainJob) -> bool:
    """As asked, else where a GPU has it; CPUs train in float32."""
    import torch

    if job.options.bf16 is not None:
        return job.options.bf16
    return device() == "cuda" and torch.cuda.is_bf16_supported()


def load_tokenizer(job: TrainJob) -> Any:
    """The base's tokenizer, with the job's chat template and something to pad with: no row of it is learned or read."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.base)
    if tokenizer.pad_token is None:
        spare = tokenizer.eos_token or tokenizer.unk_token
        tokenizer.pad_token = spare or tokenizer.convert_ids_to_tokens(0)
    if job.chat_template:
        tokenizer.chat_template = job.chat_template
    return tokenizer


def build(job: TrainJob, tokenizer: Any) -> Any:
    """The base with a fresh adapter on it, seeded; in 4 or 8 bits where the job says so."""
    import torch
    from peft import get_peft_config, get_peft_model, prepare_model_for_kbit_training
    from transformers import set_seed

    set_seed(job.options.seed)
    model = _base(job, tokenizer)
    if job.bits is not None:
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=job.options.gradient_checkpointing
        )
    torch.manual_seed(job.options.seed)
    try:
        model = get_peft_model(model, get_peft_config(dict(job.peft)))
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise TrainingError(
            f"PEFT cannot put the method {str(job.peft['peft_type']).lower()} on this base",
            why=str(error).splitlines()[0],
            fix="check --target-modules and --set",
        ) from error
    if job.start is not None:
        _start_from(model, job)
    if not any(p.requires_grad for p in model.parameters()):
        raise TrainingError(
            f"the method {str(job.peft['peft_type']).lower()} has nothing to train here",
            why="no parameter of it learns",
            fix="choose another --method",
        )
    return model


def keep_float32(model: Any) -> None:
    """The trained weights in float32, whatever TRL made of them."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in {torch.bfloat16, torch.float16}:
            parameter.data = parameter.data.float()


def _keep_unpacked(model: Any) -> None:
    """Keep bitsandbytes from packing weights of 4 bits for a CPU with AVX-512 BF16.

    It packs them when the model is first asked something, and no gradient goes through a packed layer any more: after
    an evaluation, training would learn nothing below the last one, silently. Packing also fails below 64 columns.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _base(job: TrainJob, tokenizer: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    compute = torch.bfloat16 if use_bf16(job) else torch.float32
    how: dict[str, Any] = {"dtype": compute}
    if job.bits is not None:
        from transformers import BitsAndBytesConfig

        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=job.bits == 4,
            load_in_8bit=job.bits == 8,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
    try:
        if job.objective == "classify":
            names = dict(enumerate(job.classes))
            model = AutoModelForSequenceClassification.from_pretrained(
                job.base,
                num_labels=len(names),
                id2label=names,
                label2id={v: k for k, v in names.items()},
                **how,
            )
        else:
            model = AutoModelForCausalLM.from_pretrained(job.base, **how)
    except (OSError, ValueError, ImportError) as error:
        raise TrainingError(
            f"cannot load the base {job.base}",
            why=str(error).splitlines()[0],
            fix="check that it is a whole transformers model",
        ) from error
    _keep_unpacked(model)
    model.config.use_cache = False
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


def _start_from(model: Any, job: TrainJob) -> None:
    """Put each A of the job's file in place; a module that is not trained is passed over."""
    from safetensors.torch import load_file

    assert job.start is not None
    modules = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and "default" in module.lora_A
    }
    if not modules:
        raise TrainingError(
            "cannot start orthogonal to other adapters",
            why=f"the method {str(job.peft['peft_type']).lower()} has no A to start from",
            fix="leave out --orthogonal-to, or use --method lora",
        )
    placed = 0
    for name, values in load_file(job.start).items():
        if name in modules and modules[name].lora_A["default"].weight.shape == values.shape:
            weight = modules[name].lora_A["default"].weight
            weight.data.copy_(values.to(weight.dtype))
            placed += 1
    if not placed:
        raise TrainingError(
            "cannot start orthogonal to these adapters",
            why="they change none of the modules that are trained",
            fix="leave out --orthogonal-to, or choose --target-modules that they change",
        )

"""Tensors that the identity of a base leaves out, because the config declares them one with another.

Some tools save both, others only the embedding. An identity must be the same on every machine, with or without
transformers and whatever its version, so it goes by a fixed list of names; everything that reads or changes weights
asks the model's class instead (`architecture`). The names are those of transformers' `_tied_weights_keys` (5.23), matched at the end of a tensor's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adaptkit.types import TensorInfo

# Each group is tied to those behind it; the last one that is there stays.
_HEADS = (
    "lm_head",
    "lm_head.out_proj",
    "head",
    "decoder",
    "proj_out",
    "output_projection",
    "embed_out",
    "lm_loss",
    "vocab_projector",
    "generator_lm_head",
    "pred_layer.proj",
)
_EMBEDDINGS = (
    "embed_tokens",
    "wte",
    "word_embeddings",
    "tok_embeddings",
    "tokens_embed",
    "embed_in",
    "word_embedding",
    "embeddings",
)
_BIASES = (
    ("lm_head.decoder.bias", "lm_head.bias"),
    ("predictions.decoder.bias", "predictions.bias"),
)


def candidates(
    tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    """Pairs (left out, stays) that the config declares tied and whose dtype and shape agree; bytes are the caller's."""
    return tuple(
        (tied, partner)
        for tied, partner in _declared(sorted(tensors), config)
        if tensors[tied] == tensors[partner]
    )


def _declared(names: list[str], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    shared = _ending(names, ("shared",))
    encoder = _ending(names, ("encoder.embed_tokens",))
    decoder = _ending(names, ("decoder.embed_tokens",))
    if _ties_words(config):
        partners = [name for name in _ending(names, _EMBEDDINGS) if name not in encoder + decoder]
        for head in _ending(names, _HEADS):
            yield from ((head, partner) for partner in shared + encoder + decoder + partners)
        for tied, partner in _BIASES:
            for name in names:
                if name == tied or name.endswith(f".{tied}"):
                    other = name.removesuffix(tied) + partner
                    yield from [(name, other)] if other in names else []
    if (
        _ties_words(config) or config.get("is_encoder_decoder") is True
    ):  # T5 shares these whatever its head does
        yield from ((name, partner) for name in decoder for partner in shared + encoder)
        yield from ((name, partner) for name in encoder for partner in shared)


def _ties_words(config: Mapping[str, Any]) -> bool:
    """`tie_word_embeddings`, of a multimodal model's text part if need be. transformers 4 left it out where true."""
    for part in (config, config.get("text_config"), config.get("decoder")):
        if isinstance(part, dict) and isinstance(part.get("tie_word_embeddings"), bool):
            return bool(part["tie_word_embeddings"])
    return bool(config)


def _ending(names: list[str], modules: tuple[str, ...]) -> list[str]:
    ends = tuple(f".{module}.weight" for module in modules)
    return [name for name in names if f".{name}".endswith(ends)]

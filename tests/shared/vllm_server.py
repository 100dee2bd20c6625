"""A structural twin of vLLM's server: the part of its API that the gateway touches, and its habit of caching by name.

Run as `vllm serve BASE --host H --port P --served-model-name base …`. What a completion says is the start of the
hash of the weights that its model name means here, so that a test sees which adapter was applied.
`test_gateway.py` compares it with vLLM's own source where ADAPTKIT_VLLM_WHEEL names an unpacked wheel.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from hashlib import sha256
from pathlib import Path

import uvicorn
from safetensors.numpy import load_file
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

ROUTES = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/health")
FIELDS = ("lora_name", "lora_path")
ALREADY = "has already been loaded"
ADDED = "added successfully"
BASE = "the base alone"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vllm/config/lora.py: MaxLoRARanks


def error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status)


def said(file: Path) -> str:
    """What is said with the weights in a file: what the base says when every B is zero."""
    tensors = load_file(file)
    if not any(values.any() for key, values in tensors.items() if "lora_B" in key):
        return BASE
    return sha256(file.read_bytes()).hexdigest()[:12]


class Twin:
    def __init__(self, base: str, seed: str | None) -> None:
        self.seed = seed
        self.base, self.said = base, {base: BASE}
        self.loads: list[str] = []

    async def health(self, _):
        return PlainTextResponse("")

    async def load(self, request):
        body = await request.json()
        name, path = (body.get(field) for field in FIELDS)
        if not name or not path:
            return error(
                400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided."
            )
        if name in self.said and not body.get("load_inplace"):
            return error(400, "InvalidUserInput", f"The lora adapter '{name}' {ALREADY}.")
        if not (Path(path) / "adapter_config.json").is_file():
            return error(404, "NotFoundError", f"No adapter found for {name} at {path}")
        await asyncio.sleep(0.2)  # others come meanwhile
        self.said[name] = said(Path(path) / "adapter_model.safetensors")
        self.loads.append(name)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' {ADDED}.")

    async def unload(self, request):
        name = (await request.json())["lora_name"]
        if name not in self.said:
            return error(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        del self.said[name]
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def loaded(self, _):
        """Not vLLM's: what was loaded, in order, and with what it was started."""
        told = {"loads": self.loads, "home": os.environ["ADAPTKIT_HOME"], "seed": self.seed}
        return JSONResponse(told | {"plugins": os.environ.get("VLLM_PLUGINS")})

    async def complete(self, request):
        body = await request.json()
        name = body["model"]
        if name not in self.said:
            return error(404, "NotFoundError", f"The model `{name}` does not exist.")
        choice = {"index": 0, "text": self.said[name], "finish_reason": "stop"}
        if (
            "prompt_logprobs" in body
        ):  # vLLM's own: {token: its logprob} for each token but the first
            seed = int.from_bytes(sha256(self.said[name].encode()).digest()[:4])
            found = [{str(token): {"logprob": -token / seed}} for token in body["prompt"][1:]]
            choice["prompt_logprobs"] = None if os.environ.get("TWIN_IS_QUIET") else [None, *found]
        whole = {"object": "text_completion", "model": name, "choices": [choice]}
        if not body.get("stream"):
            return JSONResponse(whole)

        async def events():
            yield f"data: {json.dumps(whole)}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("serve")
    parser.add_argument("model")
    for option in ("--host", "--port", "--served-model-name", "--max-loras"):
        parser.add_argument(option)
    parser.add_argument("--max-lora-rank", type=int, choices=RANKS)
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--seed")
    asked = parser.parse_args()
    if os.environ.get("TWIN_FAILS"):
        sys.exit(3)
    twin = Twin(asked.served_model_name, asked.seed)
    routes = [
        Route("/health", twin.health),
        Route("/loaded", twin.loaded),
        Route("/v1/load_lora_adapter", twin.load, methods=["POST"]),
        Route("/v1/unload_lora_adapter", twin.unload, methods=["POST"]),
        Route("/v1/completions", twin.complete, methods=["POST"]),
    ]
    uvicorn.run(
        Starlette(routes=routes), host=asked.host, port=int(asked.port), log_level="warning"
    )


if __name__ == "__main__":
    main()

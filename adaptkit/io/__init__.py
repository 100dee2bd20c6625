"""Files on disk: durable writes, safe paths, staging, safetensors; progress, HTTP and hardware."""

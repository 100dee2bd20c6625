"""The server: OpenAI's protocol over HTTP, for the base, its adapters and live compositions."""

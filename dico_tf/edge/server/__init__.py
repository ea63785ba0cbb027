"""gRPC and HTTP servers with limits, tokens, TLS and metrics; they serve any ModelService."""

"""Where requests come in: gRPC and HTTP before any service, with limits, tokens, TLS and numbers."""

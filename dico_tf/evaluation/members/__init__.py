"""Members of committees, one module for each kind: images in, logits out, at a measured cost."""

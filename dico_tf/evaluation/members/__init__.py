"""Members of a committee of any kind: pictures in, logits out, with what that costs."""

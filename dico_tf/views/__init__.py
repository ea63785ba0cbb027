"""What each branch sees of an image. `policies` needs no TensorFlow; the other modules do."""

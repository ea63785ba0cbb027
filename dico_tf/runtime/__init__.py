"""Run exported networks without TensorFlow."""

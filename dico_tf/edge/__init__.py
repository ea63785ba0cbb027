"""Answers from exports, without TensorFlow: a worker for one member, a gateway for the committee, and their client."""

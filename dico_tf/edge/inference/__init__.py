"""The network of a worker: its LiteRT file, the threads that run it, and the change to a new export."""

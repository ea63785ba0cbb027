"""The network of a worker: its file, the threads that run it, and the next one."""

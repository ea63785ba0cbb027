"""Members of a committee, reached over the network by one deadline, and the combination of their answers."""

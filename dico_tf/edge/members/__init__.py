"""Asking the members of a committee over the network within one deadline, and combining their answers."""

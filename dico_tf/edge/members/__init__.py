"""How many members are asked by one deadline, and what their answers become together."""

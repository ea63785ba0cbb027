"""Files that several rooms read and write: atomic writes, checksums, arrays, JSON. Standard library and numpy only."""

"""Files that several packages read and write: atomic writes, checksums, arrays, JSON. Needs numpy only."""

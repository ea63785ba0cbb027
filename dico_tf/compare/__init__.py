"""Train several arms on the same images and seeds, and compare their accuracy with intervals."""

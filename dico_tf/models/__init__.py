"""Network families, one file each, with their presets; and loading of weights that other projects publish."""

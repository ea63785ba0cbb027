"""Network families, one file each, and their presets; weights from other projects."""

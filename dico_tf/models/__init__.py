"""One file per family; the menu finds them by their presets' names."""

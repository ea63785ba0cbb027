"""Network families, one file each, with their presets; networks of the user's own; audits; published weights."""

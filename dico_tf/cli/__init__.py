"""The commands of dico_tf: one module each, with `main(arguments)` and its flags."""

"""Tasks that networks learn: each is a class in a file of its own, named in `dico_tf.config.TASKS`."""

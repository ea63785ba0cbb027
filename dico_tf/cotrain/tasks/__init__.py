"""Tasks: one class in each file, listed in `dico_tf.config.TASKS`."""

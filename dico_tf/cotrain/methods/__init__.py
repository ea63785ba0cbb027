"""Methods of co-training: one class in each file, listed in `dico_tf.config.METHODS`."""

"""Methods of co-training: each is a class in a file of its own, named in `dico_tf.config.METHODS`."""

"""Pieces of view policies: one class each, registered by name in `dico_tf.views.policies`."""

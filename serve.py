"""Serve an export without TensorFlow: python serve.py worker --manifest=O/manifest.json --member=branch_0"""

from dico_tf.cli.serve import main
from dico_tf.flags import run

if __name__ == "__main__":
    run(main)

"""Classify images with a trained run: python predict.py --workdir=W images/*"""

from dico_tf.cli.predict import main
from dico_tf.flags import run

if __name__ == "__main__":
    run(main)

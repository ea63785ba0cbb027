"""Score a trained run on one of its splits: python evaluate.py --workdir=W --split=test"""

from dico_tf.cli.evaluate import main
from dico_tf.flags import run

if __name__ == "__main__":
    run(main)

"""Search for ensembles and cascades of any models: python committee.py search --workdir=W"""

from dico_tf.cli.committee import main
from dico_tf.flags import run

if __name__ == "__main__":
    run(main)

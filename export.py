"""Export a run or a committee: python export.py --workdir=W --out=O"""

from dico_tf.cli.export import main
from dico_tf.flags import run

if __name__ == "__main__":
    run(main)

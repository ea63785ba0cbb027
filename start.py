"""From a folder of images to a served committee: python start.py DIR"""

from dico_tf.cli.start import main
from dico_tf.flags import run

if __name__ == "__main__":
    run(main)

"""Train several networks with several seeds, and compare them: python compare.py --flagfile=F --arms=... --out=DIR"""

from dico_tf.cli.compare import main
from dico_tf.flags import run

if __name__ == "__main__":
    run(main)

"""Print how a network is divided, and its cost: python divide.py --model=wrn_28_10 --splits=4 --dataset=cifar100"""

from dico_tf.cli.divide import main
from dico_tf.flags import run

if __name__ == "__main__":
    run(main)

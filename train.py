"""Train a divided network: python train.py --flagfile=configs/cifar10.flags"""

from dico_tf.cli.train import main
from dico_tf.flags import run

if __name__ == "__main__":
    run(main)

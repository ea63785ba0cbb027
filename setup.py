"""Packages of the distribution: the recipes of configs/ are installed as dico_tf/configs. All else: pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["dico_tf", "dico_tf.*"]), "dico_tf.configs"],
    package_dir={"dico_tf.configs": "configs"},
    package_data={"dico_tf": ["py.typed"], "dico_tf.configs": ["*.flags"]},
)

"""Ensembles and cascades of any models, computed from their logits in numpy.

The members of a cascade run in order, usually the cheapest first. After each one, the answer of the members so far is
final if its confidence reaches the gate; otherwise the next member runs. (Wang et al., arXiv 2012.01988.)
"""

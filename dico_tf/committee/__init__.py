"""Ensembles and cascades of any members, from their logits alone; numpy only.

Members answer in their order, the cheapest first; after each the running answer of those so far passes its gate, or
the next member is asked. (Wang et al., arXiv 2012.01988.)
"""

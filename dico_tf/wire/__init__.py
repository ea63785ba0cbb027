"""Protobuf messages of published protocols, reduced to the parts that this project uses.

Field numbers are those of the protocols. Package names are our own, so that a process can also load the protocols'
original messages without a conflict. `make messages` generates the *_pb2.py files from the *.proto files.
"""

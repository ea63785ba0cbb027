"""What is said between processes: messages of published protocols, in the parts of them that are spoken here.

The numbers of the fields are those of the protocols; the package names are ours, so that whoever has also loaded the
protocols' own messages meets no second definition. `make messages` writes the *_pb2.py files from the *.proto files.
"""

"""Training across sites that keep their data. No code yet: this package marks the place and its rules.

What will live here, after Fed-NDIF (arXiv 2503.16635): local training and evaluation of one site without any transport,
the translation of weights to and from Flower's records, the client and server apps, and their deployment (certificates,
keys, processes). It is the only package that may import flwr, which comes with the extra `federated`; import-linter
holds that.
"""

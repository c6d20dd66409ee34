"""The files of a data set. No torch.

fetch    found or fetched, verified, kept
mirrors  where Fashion-MNIST is fetched from
"""

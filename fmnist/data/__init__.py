"""The images: found, split, cut into batches.

fetch     the files, found or fetched, and verified. No torch
dataset   the splits as uint8 tensors; seeds
batches   the batches of an epoch
"""

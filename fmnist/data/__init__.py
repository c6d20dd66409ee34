"""The images: found, split, cut into batches.

sources   where Fashion-MNIST is downloaded from. No torch
fetch     the files of a data set: found or fetched, and verified. No torch
dataset   the splits as uint8 tensors; seeds
augment   training images changed anew in each epoch
batches   the batches of an epoch
"""

"""The images: read, split, cut into batches.

dataset   the splits as uint8 tensors; seeds
augment   training images changed anew in each epoch
batches   the batches of an epoch
"""

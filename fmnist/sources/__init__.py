"""The files of a data set. No torch.

fetch    found or fetched, verified, kept
present  whether Fashion-MNIST is here; a made-up set in its place
mirrors  where Fashion-MNIST is fetched from
idx      IDX files: found by name, read, checked
source   four files as one data set: names of classes, digest, other test sets
teacher  the file of a teacher: probabilities of all rows of the training file
sums     SHA-256 of files, computed once
convert  arrays and pictures as IDX files
command  python -m fmnist.data
"""

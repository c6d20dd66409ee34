"""The textbook: every formula, differentiated by autograd.

layers   Linear, Dropout, BatchNorm, Residual, activations, initial weights
noise    the random numbers of training; noise on the input
models   MLP, Deep, Autoencoder, VAE: what the layers are composed to
losses   losses for each example; what a model is trained and measured by
optim    SGD, Adam, AdamW over flat buffers; learning rate schedules
totals   the metrics of an epoch, summed over its rows
step     one training step by autograd, and evaluation
"""

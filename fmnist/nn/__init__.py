"""The textbook: every formula, differentiated by autograd.

layers   Linear, Dropout, BatchNorm, LayerNorm, Residual, activations, initial weights
noise    the random numbers of training; noise on the input
models   softmax regression, MLP, Deep, Autoencoder, VAE: what the layers are composed to
losses   losses for each example; what a model is trained and measured by
optim    SGD, Adam, AdamW over flat buffers; the running average of the weights; learning rate schedules
totals   the metrics of an epoch, summed over its rows
step     one training step by autograd, and evaluation
"""

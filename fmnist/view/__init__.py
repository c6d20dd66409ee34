"""What is seen of runs, and changes nothing of them.

metrics      metrics of a whole set of predictions or codes
answers      what models say of each image
views        fixed views of images, over which probabilities are averaged
calibration  what the probabilities of a classifier are worth
measure      what is measured once, after training
bounds       the importance-weighted bound of a variational autoencoder
opening      the first line of a run's log
debug        the training step of debug=true, which checks each number
watch        what can be watched while a model trains
histograms   weights, gradients and activations of each layer while a model trains
ending       what runs leave to be looked at when they have trained to their end
show         what is shown of runs once they are trained
tally        what classifiers take images for, counted
mistakes     what classifiers get wrong
classifiers  pictures of classifiers, for TensorBoard
pictures     pictures of autoencoders
predictions  pictures of what models make of single images
graph        a model as a graph
board        where pictures are shown
"""

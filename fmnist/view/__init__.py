"""What is seen of runs, and changes nothing of them.

metrics      metrics of a whole set of predictions or codes
measure      what is measured once, after training
watch        what can be watched while a model trains
histograms   weights, gradients and activations of each layer while a model trains
show         what is shown of runs once they are trained
predictions  what classifiers take images for, counted
classifiers  pictures of classifiers
pictures     pictures of autoencoders
graph        a model as a graph
board        where pictures are shown
"""

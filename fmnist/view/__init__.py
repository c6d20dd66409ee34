"""What is seen of runs, and changes nothing of them.

metrics      metrics of a whole set of predictions or codes
answers      what models say of each image
calibration  what the probabilities of a classifier are worth
measure      what is measured once, after training
opening      the first line of a run's log
debug        the training step of debug=true, which checks each number
watch        what can be watched while a model trains
pictures     pictures of autoencoders
predictions  pictures of what models make of single images
mistakes     what classifiers get wrong
ending       what runs leave to be looked at when they have trained to their end
"""

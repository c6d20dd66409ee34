"""What is seen of runs, and changes nothing of them.

metrics   metrics of a whole set of predictions or codes
measure   what is measured once, after training
watch     what can be watched while a model trains
pictures  pictures of autoencoders
mistakes  what classifiers get wrong
ending    what runs leave to be looked at when they have trained to their end
"""

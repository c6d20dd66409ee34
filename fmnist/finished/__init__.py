"""Finished runs, measured again: their models are loaded, together where they can be.

load       finished runs as stacks; what they say of their images
scores     what runs are worth: one by itself, several beside one another
tables     the same as text
pairs      two runs that were tested on the same images
ensembles  what runs say together, and what each adds
teaching   what they say of the training rows, for a run that learns from it
averaged   the mean of their weights, as a network and as a run
"""

"""Runs of the textbook.

stack     K runs as one model
run       one of them: its record, checkpoints, best weights, patience
engine    fit: the one training loop
restore   a stack from configs, or from a run's directory
measure   what is measured once, after training
watch     what can be watched while a model trains
pictures  pictures of autoencoders
signals   catches Ctrl-C and SIGTERM, so that training can finish its epoch and save
"""

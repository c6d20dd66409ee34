"""Runs of the textbook.

stack     K runs as one model
run       one of them: its record, checkpoints, best weights, patience
engine    fit: the one training loop
restore   a stack from configs, or from a run's directory
"""

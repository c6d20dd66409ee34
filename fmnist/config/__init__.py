"""What a run is. No torch.

schema     every knob: its type, its default, what it allows; one entry for each model
parse      what the user typed -> a checked Config; its hash
annealing  knobs that change from epoch to epoch
"""

"""The referee: this project beside its peers on the same work.

entrants  the programs that are timed: who they are, what they are asked
race      one piece of work by many entrants in turns
sweeps    whole sweeps beside Hydra's own launchers
show      a record as tables and as a picture
peers/    the programs themselves; each runs alone, with no import from this package
"""

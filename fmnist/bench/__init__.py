"""The referee: it times this project beside its peers on the same work.

entrants  the peers, and an entrant: one of them as a running program that is timed
isa       the instruction set of all entrants, and the processor's float32 peak
beside    busy loops, beside which entrants are timed
race      one piece of work, done by many entrants in turns; starts from the command to the first step
steps     where the time of our own step goes, as tables and as a picture
sweeps    whole sweeps, beside Hydra's own launchers
goals     commands that are to reach an accuracy, from their start to their exit
classics  learners that are no networks, trained once on the official split
show      a record as tables and as a picture
peers/    the programs; each runs alone, in an environment of its own, and imports nothing from this package
"""

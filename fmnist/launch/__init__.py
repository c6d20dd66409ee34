"""Many runs: who trains with whom, on which processes.

groups     which runs train together
costs      work and memory of a config
machine    the cores and the memory that this process may use
threads    how long threads wait awake; commands import it before torch
locks      one command at a time trains in a directory
trouble    what went wrong, as data that crosses processes
plan       how large the stacks, how many the workers
progress   how far a sweep has come
estimate   when a sweep will have ended
runs       what launchers write into the directories of runs
pool       has worker processes, sends them runs, collects results, replaces those that crash
forkserver starts these processes; torch is imported once for all of them
worker     a process that trains stacks
names      the names of sweeps and runs, made of their overrides
commands   commands that can be pasted, overrides with the quotes they need
callbacks  what Hydra calls: refuse a mistake early, dry run, leaderboard
manual     the text of --help, and which values need quotes
completion what can complete a command line
"""

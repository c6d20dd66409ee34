"""Many runs: who trains with whom, on which processes.

groups     which runs train together
costs      work and memory of a config
machine    the cores and the memory that this process may use
trouble    what went wrong, as data that crosses processes
plan       how large the stacks, how many the workers
progress   how far a sweep has come
runs       what launchers write into the directories of runs
pool       starts worker processes, sends them runs, collects results, replaces those that crash
forkserver how these processes are started: torch is imported once
worker     a process that trains stacks
commands   commands that can be pasted, overrides with the quotes they need
callbacks  what Hydra calls: refuse a mistake early, dry run, leaderboard
manual     the text of --help
"""

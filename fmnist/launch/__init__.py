"""Many runs: who trains with whom, on which processes.

groups     which runs train together
costs      work and memory of a config
plan       how large the stacks, how many the workers
pool       starts worker processes, sends them runs, collects results, replaces those that crash
worker     a process that trains stacks
callbacks  what Hydra calls: refuse a mistake early, dry run, leaderboard
"""

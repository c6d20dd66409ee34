"""What a run leaves on disk. No torch until a checkpoint is loaded.

files       files that are written whole or not at all
result      result.json and metrics.jsonl, read; how a run ended
record      the same, written
checkpoint  the weights
"""

"""What a run leaves on disk. No torch until a checkpoint is loaded.

result      result.json and metrics.jsonl, read; how a run ended
record      the same, written
checkpoint  the weights
"""

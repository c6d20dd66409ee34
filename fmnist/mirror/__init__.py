"""TensorBoard's files of a run, a mirror of its record. No torch until a run starts.

mirror     the events of a run: curves, knobs, pictures
summaries  what TensorBoard wants events to be
layers     what was seen of the layers, kept for a run that goes on
projector  the files of its projector
"""

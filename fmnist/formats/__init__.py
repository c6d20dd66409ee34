"""Networks for others: safetensors, a script of torch.nn, ONNX.

network    the network of one run, without the run axis, of torch.nn's own layers; what it answers to images
weights    its weights as a safetensors file, with what one must know of them
script     the lines of Python that build it of torch.nn alone and load its weights
graph      the same as an ONNX file; what onnxruntime answers
"""

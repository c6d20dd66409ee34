"""The textbook made fast. With nn.step.Step in place of TapedStep all results are the same up to rounding.

step          the training step, replayed from a tape
tape          a list of operations over kept buffers
taped         how each layer and model is written on a tape
taped_norms   how the normalising layers are written on a tape
taped_models  how the models that reconstruct images are written on a tape
taped_losses  how each loss is written on a tape
kernels       which kernels do the work
programs      operations of a tape put together into programs of the native library
translator    which instructions of the library do an operation of torch
update        the optimizer's update as the last part of a program
native        the native library, native/*.c, and its products with images, which skip black pixels
integers      exact products of float32 matrices with 8-bit images on processors with AMX; integers.c does the work
graphs        operations captured as CUDA graphs
described     what of all this serves here, and why, in words
profile       a trace and a table of what steps cost
"""

"""The bench as a library: `from fmnist import load, fit`. Hydra's command line and its log stay out of it.

images     images as users have them, checked and as the model takes them
model      `load`: a finished run as a model that predicts, without its data
fitting    `fit`: one run from a notebook or a script, with a progress bar
estimator  the same with scikit-learn's interface
pictures   PNG, JPEG, npy and IDX files as images of a run's size
"""

"""Beyond the textbook, one file each: lion, muon, hog, vamp and two_levels, and ideas of your own.

A file that is put here adds its names to the tables of fmnist.config.schema, fmnist.nn, fmnist.data and fmnist.view;
then configs can ask for them. docs/extending.md walks through an example of each kind.
"""

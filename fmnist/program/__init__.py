"""The program itself, whatever it does. No torch but in packing.

version    its commit, and the versions of the packages that it runs with
packages   what is installed, against what is asked for and what the tests have
arguments  what its commands are given
output     what they print to, and the status with which they end
progress   what is drawn in place at the end of a terminal, or else a line a minute
signals    catches Ctrl-C and SIGTERM, so that training can finish its epoch and save
files      files that are written whole or not at all; locks
packing    a dict of tensors and plain values as bytes, and back
reading    files of strangers, read only as far as they should go
"""

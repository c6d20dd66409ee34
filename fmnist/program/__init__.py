"""The program itself, whatever it does. No torch.

version  its commit, and the versions of the packages that it runs with
output   what its commands print to, and the status with which they end
"""

"""The coursework report, run again: a client of the packages below it. No torch.

archive          finished runs packed into one small file
evidence         samples over seeds, paired studies, verdicts
systems          the networks of the report, what it said of each, and whether our runs agree
claims           the claims of the report, and the studies that test them
claims_norm      the rules for its claims of batch normalisation
claims_training  the rules for its claims of training, depth and autoencoders
pages            docs/report/ from its records
"""

"""The coursework report, run again: a client of the packages below it. No torch.

archive          the runs of a study packed into one small file
evidence         the runs of a study by their knobs, failed ones included; samples over seeds
metrics          metrics of runs by seed
statements       statements about runs, and the loop that judges them
systems          the networks of the report, what it claimed of each, and whether our runs agree
claims           the claims of the report, the studies that test them, what was found
claims_norm      its claims of batch normalisation as statements
claims_training  its claims of training, depth and autoencoders as statements
claims_pictures  the pictures and tables on the pages of the claims
pages            docs/report/ from its records
"""

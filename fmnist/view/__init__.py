"""What is seen of runs, and changes nothing of them.

metrics   metrics of a whole set of predictions or codes
measure   what is measured once, after training
opening   the first line of a run's log
debug     the training step of debug=true, which checks each number
watch     what can be watched while a model trains
pictures  pictures of autoencoders
"""

"""Any runs, compared, from their records alone. No torch.

intervals    statistics over seeds and over images
words        knobs, values and metrics in words
records      what the record of a run says, checked
comparison   records read and grouped: what can be compared with what
against      configurations against one of them, paired by seed
tables       tables as text, Markdown, LaTeX and CSV
summary      the recorded test metrics of runs, by configuration
pair         two runs side by side
leaderboard  the runs of a sweep, ranked
axes         knobs as axes
plots        what pictures are made of: curves, panels, means in a row
gallery      which pictures there are, and for which comparisons
landscapes   the pictures of a report, by how many knobs vary
tradeoffs    what a better result costs in time and in parameters
importance   how much each knob decides
mistakes     what the best configuration gets wrong
power        how many seeds it takes to see a difference
page         the report as a folder
watching     a report that is kept up to date while its runs are trained
"""

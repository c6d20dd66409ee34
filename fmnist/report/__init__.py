"""Any runs, compared, from their records alone. No torch.

intervals    statistics over seeds
comparison   records read back and grouped: what can be compared with what
leaderboard  the runs of a sweep, ranked
axes         knobs and metrics in words, and as axes
tables       tables as text, Markdown, LaTeX and CSV
plots        curves, and the response to one knob
landscapes   pictures of two knobs and more
page         the report as a folder
"""

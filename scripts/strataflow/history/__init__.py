"""What became of customers from day to day: snapshots, intervals, moves and their causes.

History is derived after publishing, from the published versions and the data
behind them, and lies beside the versions: a version stays a function of one
day, and history can be made again from what is published.
"""

"""The benchmark behind ``make bench``: what a day costs, against what it would have to cost at least.

Every figure is of whole processes as a user starts them, measured from outside. The
floor is the same work as one hand-written SQL script in the same run, so that a target
is a ratio and not a number of seconds on somebody's machine.
"""

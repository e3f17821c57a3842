"""Charts: pure functions from the tables of `planner.views` to Altair charts.  No numbers are made here.

`dark` picks the palette that is readable on the theme's ground; shapes, dashes and words carry what colour carries.
"""

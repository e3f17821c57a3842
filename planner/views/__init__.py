"""What a screen shows, as tables and sentences: pure functions of scenarios and results; nothing here draws.

link.py         a scenario as the query of a link, and back; a bad value is named and corrected
plan.py         one scenario worked out: the recommended place, its cost curve, the sentence that answers
tables.py       the numbers behind each chart (one DataFrame per chart: it is also the chart's CSV)
tornado.py      what moves the answer, and what it costs to be wrong about it
timeline.py     one simulated run
runs.py         telemetry directories: predicted against actual
"""

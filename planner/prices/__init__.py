"""Prices as the providers state them now, and what was missing when they were asked.

transport     one seam for HTTP: real, and a fake beside it; retries, deadlines, whole bodies only
records       price changes, what is missing and why
history       change points, forward-filled
aws           spot price history, on-demand, placement scores (credentials)
spot_advisor  AWS's public interruption bands (no key)
azure         the retail price list (no key)
gcp           the billing catalogue (key)
cache         answers on disk, with their age
live          all of it together; every failure is one line and never the end of a plan
"""

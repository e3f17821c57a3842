"""The dashboard: Streamlit pages over the planner's public functions.  No number is computed here.

main.py       starts: page settings, navigation, and the shell around every page
state.py      what the user chose, in the session and in the URL
work.py       long work in threads: progress, cancelling, results cached by their inputs
inputs.py     the inputs at the side
text.py       text that is safe to render, errors as sentences
charts/       charts as pure functions (Altair);  figures.py  the same as exported figures (matplotlib)
pages/        Plan, Compare, Understand, Assumptions, Export, Runs
"""

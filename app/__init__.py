"""The Streamlit dashboard: pages over the planner's public functions, no numerics of its own."""

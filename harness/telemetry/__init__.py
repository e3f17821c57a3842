"""What happened, written down so that it survives the node: events, their reader, and the profile made from them.

`schema` needs only pydantic (the planner imports it); `writer` and `reader` only the standard library on top.
"""

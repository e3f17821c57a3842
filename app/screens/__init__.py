"""The pages.  Each module draws one: `draw(plan)`, or `draw()` where no plan is needed."""

"""What to what: passes from graph to graph."""

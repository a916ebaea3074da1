"""What to where: cost model and placement."""

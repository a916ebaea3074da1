"""What a program is, at three levels (graph, placed, plan), and how one cluster computes (kernel). Knows nothing above it."""

"""Benchmarks: the model zoo and the harnesses that time compiled plans against their peers."""

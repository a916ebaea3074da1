"""The official suite of the onnx package over compiled plans: `python -m tests.conformance`."""

"""The front door: commands, driver, options, artifact, front ends and reports."""

"""`probe`: measure this machine and write its profile."""

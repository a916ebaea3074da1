"""How one level becomes the next: pure functions on frozen values. Imports `ir` only."""

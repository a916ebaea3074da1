"""stratac."""

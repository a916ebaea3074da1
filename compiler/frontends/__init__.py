"""Front ends make Graphs of models. What lies here serves each of them; none of them knows another."""

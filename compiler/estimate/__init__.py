"""What a model would need and cost on a machine, without the machine, the weights or a compiler."""

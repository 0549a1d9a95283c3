"""Anyone's networks: a `torch.nn.Module` in memory, or the file of `wrap:FILE`, made into what a `Classifier` holds."""

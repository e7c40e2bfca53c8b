"""Image models with their preprocessing and pooling."""

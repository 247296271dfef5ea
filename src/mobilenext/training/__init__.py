"""Training: recipes, augmentation, the loop, checkpoints and several processes."""

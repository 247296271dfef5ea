"""Image classification: what its training, evaluation and answers are made of."""

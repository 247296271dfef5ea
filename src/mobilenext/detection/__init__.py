"""Detection of objects: what its training, evaluation and answers are made of."""

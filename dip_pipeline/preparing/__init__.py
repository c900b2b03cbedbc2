"""A frame before it is restored: bad pixels found, noise settled, problems cut out."""

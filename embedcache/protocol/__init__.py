"""How models are judged: classes, clusters, folds."""

"""The folder of one protocol: folds, predictions, metrics, comparisons."""

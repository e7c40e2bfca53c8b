"""Fine-tuning: encoders trained on a cohort, over the folds of every other arm."""

"""The steps of a sweep: reconciling jobs with trainers, and retention."""

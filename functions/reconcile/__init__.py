"""What sweep does."""

"""What kind of archive a file is, by its first bytes."""

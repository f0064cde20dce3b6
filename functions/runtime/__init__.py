"""What a process starts with: settings, logs, the bucket."""

"""Resources of a process: settings, logs, the bucket."""

"""What ``utils`` is made of: the same files, byte for byte, in every trainer."""

"""What starts, stops and inspects trainers: local processes or Kubernetes Jobs."""

"""What a job is: states, reasons, specification, errors. Imports nothing else of Stoker."""

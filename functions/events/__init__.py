"""CloudEvents and storage notifications in, the outbox out."""

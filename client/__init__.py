"""The command line behind `./taskw`: a client of the HTTP API."""

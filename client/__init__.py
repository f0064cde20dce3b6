"""The command line: what `./taskw` calls to talk to the functions over HTTP."""

"""The command line: parse, call, print. Numbers go to stdout, everything else to stderr."""

"""Small programs that a test runs under a recorder: our real code, and a word to the outside after every promise."""

"""What `govah verify` needs beside `wire.assertion`: files, words, the mutation corpus and the foreign oracle."""

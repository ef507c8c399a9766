"""The whole system on one machine: the demo plays it, the bench tests break it. One stack for both."""

"""The only web code on the terminal: shows a screen, takes a request."""

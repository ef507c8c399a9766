"""What the two simulated parties, exchange and registry, share: TLS, listeners, how an envelope is checked."""

"""What the edge, the fleet server and the registry's simulators agree on: codecs, and nothing that opens or waits."""

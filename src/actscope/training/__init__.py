"""The one loop that trains: dictionaries, organisms, probes, adapters."""

"""The use cases of a provider, which web, worker and command line share."""

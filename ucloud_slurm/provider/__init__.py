"""What web, worker and command line share: the use cases of a provider."""

"""A new site: what to ask, the products to propose, the configuration, and the steps that remain on the host."""

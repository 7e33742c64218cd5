"""Who is who on this cluster, and becoming them."""

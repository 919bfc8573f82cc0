"""Fixed linear maps of teachers' spaces, fitted from a feature store."""

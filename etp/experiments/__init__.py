"""What a product means in a model: small trainings in which only the product changes."""

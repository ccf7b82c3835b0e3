"""A destination: its current deployment, its previous generations, and their atomic replacement."""

"""Publishing of releases: the interface of a place, and the places there are."""

"""Files: written whole, read strictly, fetched from the hub, and the formats of results. Imports errors and tasks alone."""

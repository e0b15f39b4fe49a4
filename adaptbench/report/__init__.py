"""Tables, figures and pages of results. Imports statistics and below."""

"""HTTP: the data API, and the plumbing that it shares with the admin API."""

"""The fleet's web face: two pages, live; a JSON API; metrics; one-time login."""

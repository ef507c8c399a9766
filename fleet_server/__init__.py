"""The fleet server: web, ingest and enrolment. It never sees a citizen."""

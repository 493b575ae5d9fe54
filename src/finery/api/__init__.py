"""The HTTP server: composes the slices' routes, authenticates by default, streams live, serves the built web UI."""

"""Chat: talking to a model or checkpoint, token by token.

Owns the child process that holds one loaded model and answers, the protocol with it, and which models the server keeps
loaded. Does not own: generation and chat templates (models), what a reference means (jobs.resolving). Conversations are
kept by whoever talks: each question brings all of its own. No tables.
"""

"""Jobs: what is to be done, in which state it is, and where it runs.

Owns the job file (JobSpec), the queue, the state machine, pipelines, control requests and attempts.
Verbs: submit, submit_pipeline, get, edit, request, claim, settle. Tables: job, attempt, control_request, worker.
One writer per fact: the API writes wishes (control_request), the worker writes states, the child writes its files.
"""

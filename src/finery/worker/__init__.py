"""The worker process: claims jobs, starts their supervisors, reads what they write, and settles their ends.

The only writer of job states. One worker per home (a file lock); a restarted one adopts what it finds alive.
"""

"""Tells people: what a rule asks to be told and how runs end, through channels that are set up once.

Owns: channels, and the queue of what is to be delivered through them. Does not own: which rule fires (rules), what an
event or a state is (monitoring, jobs).
"""

"""The engine `verl`: the job file on one to many hosts, through verl and Ray.

`translating` makes verl's configuration of a job, `checking` refuses what verl would take though it is wrong, and
`template` reads job files that are written in verl's words; these three are pure. `composing` has verl itself compose
and validate, under verl's interpreter.
"""

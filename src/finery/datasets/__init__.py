"""Datasets: rows of training and evaluation data in immutable, content-hashed versions.

Owns formats (SFT, verifiable, preference, unpaired), import with row-by-row validation, generators, versions `name@n`.
Verbs: import_file, generate, list_versions, get, head. Tables: dataset_version.
"""

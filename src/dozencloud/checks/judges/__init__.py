"""Judges of the facts, a file for each subject: facts and needs in, verdicts out."""

"""Machines that join a cloud: tokens, what each is given, how they are watched and shut out."""

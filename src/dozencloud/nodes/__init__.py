"""Machines that join a cloud: tokens, joining, reports, moving servers, leaving."""

"""Readers and writers of single file formats that images are made of."""

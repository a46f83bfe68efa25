"""Packages of Debian, read without dpkg: archive, signature, contents."""

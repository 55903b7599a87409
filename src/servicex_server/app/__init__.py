"""Composition roots: the only place that reads settings and decides which implementation serves which port.

In: settings (command line, environment, file). Out: running processes. May import everything but `cli`.
"""

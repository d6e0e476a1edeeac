"""Faults on purpose: bad configs, hostile run folders, odd environments, kills and signals.

`make faults` tries them all and writes docs/reliability.md; `make faults KIND=configs` tries one kind.
"""

"""Alarms: rules that judge, one life cycle for all of them, and what people do about it.

Pure: conditions and times in, events out; `now` is an argument.
"""

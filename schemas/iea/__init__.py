"""IEA Task 43 WRA data models (JSON) as `devices` records. Knows the data model's rules; knows no broker.

`model` says what a file must look like, `timeline` merges dated lists, `clock` puts the logger's dates on UTC,
`ranges` holds the limits that a sensor gets by default, `convert` puts them together.
"""

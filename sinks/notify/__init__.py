"""Alarms to people: by e-mail, webhook or a command. Knows the topic `alarms`; knows no database and no rule."""

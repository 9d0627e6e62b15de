"""The pages that people see: templates, scripts, styles, and the routes behind them. Knows the API's parts; knows no
stream, no sink, no producer."""

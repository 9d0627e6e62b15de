"""Who may write: devices' credentials and rights at the broker, certificates, and what the broker says of strangers."""

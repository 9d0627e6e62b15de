"""Logger files on their way in: found, unpacked, recognised, given to a device, read, sent, followed until stored."""

"""Logger files on their way in: unpacked, archived, given to a device, read, sent, followed until stored."""

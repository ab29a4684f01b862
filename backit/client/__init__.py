"""The outside world as clients see it: local files, the daemon, a person's folders and settings."""

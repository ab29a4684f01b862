# What BackIT uses of systemd-python, which has no types of its own.

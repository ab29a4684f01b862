"""What the bytes mean: bytes in, values out.

FORMAT.md is the authority; each module names its section. Whatever comes in, only backit.errors
come out.

No I/O, no clock, no randomness: nonces and random heads are arguments.
"""

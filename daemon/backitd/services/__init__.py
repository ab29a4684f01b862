"""The gRPC services, one file each: parse, call one function, render.

`guard` stands before all of them.

Limits on what comes in are checked in `parse`, before anything is looked up or stored.
"""

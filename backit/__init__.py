"""BackIT's shared core: what the daemon, the command line, the mount and the vendor's side share.

Imports run one way, from right to left; import-linter fails on any other:

    errors <- ids <- crypto <- format <- engine <- client <- programs

errors    the whole exception tree
process   what each program does to itself first; beside errors, knows nothing of ours
ids       names of things, as small frozen values
crypto    keys, sealing, hashing; the only package that imports PyNaCl
format    what stored bytes mean: bytes in, values out; FORMAT.md is its authority
engine    decisions: where to cut, what to ask, what to upload, fetch, keep
v1        the API, generated from protos/backit/v1
client    the outside world as clients see it: files, the daemon, the folders of a person

Up to the engine nothing does I/O, reads a clock, draws randomness or starts a thread: those come
in as arguments.

A backup: client scans files -> engine cuts, names and seals them through format and crypto ->
client asks which are missing and sends those over v1 -> the daemon stores them. A restore and a
mount are the same road back. The daemon imports no key and opens nothing.
"""

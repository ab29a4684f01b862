"""Keys and the few primitives they are used with. Pure: randomness and nonces are arguments.

`primitives` fixes the algorithms and is the only module that touches PyNaCl and blake3;
`keys` says which key names, seals, wraps and signs what (FORMAT.md section 4);
`passphrase` stretches what people type.
"""

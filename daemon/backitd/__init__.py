"""The daemon: stores ciphertext for many people and knows no key of theirs."""

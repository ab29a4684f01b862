"""Padmé: lengths that say little about what is inside (FORMAT.md section 2)."""


def padme(length: int) -> int:
    """The padded length: at least `length`, with few distinct values.

    Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs",
    PoPETs 2019.
    """
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    kept_bits = exponent.bit_length()
    step = 1 << max(exponent - kept_bits, 0)
    return (length + step - 1) // step * step

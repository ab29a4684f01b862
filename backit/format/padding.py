"""Padding: lengths that say less about what is inside (FORMAT.md section 2)."""

# From 4 KiB on the steps grow no more. Padmé's would grow to a thirty-second of a record: 1.5 % of
# everything that does not compress (DESIGN.md section 5).
STEP_MAX = 128


def padded_length(length: int) -> int:
    """At least `length`, one of few values: Padmé, but never more than STEP_MAX - 1 are added.

    Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs",
    PoPETs 2019.
    """
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    kept_bits = exponent.bit_length()
    step = min(1 << max(exponent - kept_bits, 0), STEP_MAX)
    return (length + step - 1) // step * step

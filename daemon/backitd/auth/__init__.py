"""Who is calling, and what they may do. Knows no gRPC but the names of its methods.

`principals` says who there is, `rights` which method is whose; `challenges`, `login` and `tokens`
are the way from a signature to a caller; `buckets` slows guessing; `invites` and `enrolments` are
the two ways in. Everything but invites lives in memory and is bounded.
"""

"""Generated from protos/backit/v1 by `make protos`; never edited by hand."""

"""Generated from protos/backit/format/v1 by `make protos`; never edited by hand."""

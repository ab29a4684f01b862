# What BackIT uses of grpcio-status, whose published stubs leave the status untyped.

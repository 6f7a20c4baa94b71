"""`make demo`: the whole product once around, on this machine."""

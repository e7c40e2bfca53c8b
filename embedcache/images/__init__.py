"""One picture: where it comes from, its digest, its pixels."""

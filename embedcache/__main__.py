"""`python -m embedcache` is the command `embedcache`."""

from embedcache.cli import main

main()
